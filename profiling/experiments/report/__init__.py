"""From finished results to pages: rows with intervals, tables, plots. See `write.write_report`."""
