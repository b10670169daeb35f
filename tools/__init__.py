"""Programs beside training and testing, one file each; their insides are in subpackages."""
