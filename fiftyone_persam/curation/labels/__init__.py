"""Labels of FiftyOne as masks and references."""
