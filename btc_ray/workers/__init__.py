"""Ray as this package uses it: sessions, pools of workers, blocks of rows, counting. Only jobs on Ray load it."""
