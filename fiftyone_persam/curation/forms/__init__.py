"""What the App's forms must know beforehand."""
