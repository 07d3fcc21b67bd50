module cleanbreak/bench

go 1.19
