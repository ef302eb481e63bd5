"""The six stages that frames pass, one file each, and the pipeline that connects them."""
