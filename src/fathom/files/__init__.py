"""Files in and out: everything read is checked before it is believed, everything written is whole or absent."""
