"""SqueezeDrive: find cars, cyclists and pedestrians in road video."""
