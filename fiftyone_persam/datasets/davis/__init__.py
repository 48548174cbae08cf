"""DAVIS 2016 and 2017: reading its folders, and importing them into FiftyOne."""
