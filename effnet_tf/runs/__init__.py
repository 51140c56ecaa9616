"""What is in the directory of a run: its checkpoints, and its text files?"""
