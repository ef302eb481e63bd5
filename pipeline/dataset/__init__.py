"""Makes data sets to train on: footage labelled by a teacher."""
