"""What people see and hear: figures, players, panels and the page of a run."""
