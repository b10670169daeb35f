"""The conversion of BAIR TFRecords into folders of images, for tools/convert_bair.py."""
