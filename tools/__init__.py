"""Programs other than training and testing, one file each. The code behind their command lines is in subpackages."""
