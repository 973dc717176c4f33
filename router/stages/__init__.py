"""One module a stage; none of them knows its neighbours."""
