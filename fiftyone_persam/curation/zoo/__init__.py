"""What FiftyOne's zoo looks for in this repository: a model source and a dataset source.

FiftyOne copies the folders ``model`` and ``dataset`` into its own zoo folders and runs the copies,
so they hold wiring alone and import the library by its name.
"""
