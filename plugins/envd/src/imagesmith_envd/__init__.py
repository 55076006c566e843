"""The envd builder of imagesmith."""
