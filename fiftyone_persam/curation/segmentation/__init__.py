"""The main job: plan, execution, resuming, running again."""
