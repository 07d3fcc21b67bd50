// The cases of ../beside.rs in Go, under the same names, as rows of the same form. Standard library
// only: the errgroup is twenty lines of its own, after the interface of golang.org/x/sync/errgroup,
// so that nothing is fetched.
//
// --quick measures little, --test next to nothing; every answer is checked all the same.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type effort struct {
	least, most int
	budget      time.Duration
}

var chosen = effort{5, 25, time.Second}

func check(holds bool, what string) {
	if !holds {
		panic("wrong answer: " + what)
	}
}

// row prints the median of samples, each of which is of `items` and says how long it took.
func row(name string, items int, sample func() time.Duration) {
	var samples []float64
	var spent time.Duration
	for len(samples) < chosen.least || (spent < chosen.budget && len(samples) < chosen.most) {
		took := sample()
		spent += took
		samples = append(samples, float64(took.Nanoseconds())/float64(items))
	}
	sort.Float64s(samples)
	figure(name, "ns", samples[len(samples)/2])
}

func figure(name, unit string, value float64) {
	fmt.Printf("beside,%s,go,1,%s,%.3f\n", name, unit, value)
}

// timed is how long f takes.
func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

// group is an errgroup: the first error cancels the context and is what Wait returns.
type group struct {
	cancel context.CancelFunc
	all    sync.WaitGroup
	once   sync.Once
	err    error
}

func newGroup(parent context.Context) (*group, context.Context) {
	ctx, cancel := context.WithCancel(parent)
	return &group{cancel: cancel}, ctx
}

func (g *group) spawn(f func() error) {
	g.all.Add(1)
	go func() {
		defer g.all.Done()
		if err := f(); err != nil {
			g.once.Do(func() { g.err = err; g.cancel() })
		}
	}()
}

func (g *group) wait() error {
	g.all.Wait()
	g.cancel()
	return g.err
}

func looks(n int) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	row("look", n, func() time.Duration {
		return timed(func() {
			for i := 0; i < n; i++ {
				check(ctx.Err() == nil, "not cancelled")
			}
		})
	})
}

func children(n int) {
	root, end := context.WithCancel(context.Background())
	defer end()
	row("child create cancel", n, func() time.Duration {
		return timed(func() {
			for i := 0; i < n; i++ {
				child, cancel := context.WithCancel(root)
				cancel()
				check(child.Err() != nil, "cancelled")
			}
		})
	})
}

func cancelMany(n int) {
	row("cancel 100000 children", n, func() time.Duration {
		root, cancel := context.WithCancel(context.Background())
		all, cancels := make([]context.Context, n), make([]context.CancelFunc, n)
		for i := range all {
			all[i], cancels[i] = context.WithCancel(root)
		}
		took := timed(cancel)
		check(all[n-1].Err() != nil, "the last is cancelled")
		for _, cancel := range cancels {
			cancel()
		}
		return took
	})
}

// wake is the time from cancel until the waiter runs. The waiter is given a while to block.
func wake(rounds int) {
	row("cancel to woken waiter", rounds, func() time.Duration {
		var total time.Duration
		ready, woken := make(chan struct{}), make(chan time.Time)
		for i := 0; i < rounds; i++ {
			ctx, cancel := context.WithCancel(context.Background())
			go func() {
				ready <- struct{}{}
				<-ctx.Done()
				woken <- time.Now()
			}()
			<-ready
			for settled := time.Now().Add(100 * time.Microsecond); time.Now().Before(settled); {
			}
			start := time.Now()
			cancel()
			total += (<-woken).Sub(start)
		}
		return total
	})
}

func ticks(n int) {
	row("tick of 1 ms in a select", n, func() time.Duration {
		stop := make(chan struct{})
		return timed(func() {
			ticker := time.NewTicker(time.Millisecond)
			defer ticker.Stop()
			for seen := 0; seen < n; {
				select {
				case <-stop:
					check(false, "never stopped")
				case <-ticker.C:
					seen++
				}
			}
		})
	})
}

//go:noinline
func isHit(i, j int) bool { return i == 1 && j == 1 }

func grid() (seen int) {
outer:
	for i := 0; i < 3; i++ {
		for j := 0; j < 3; j++ {
			if isHit(i, j) {
				break outer
			}
			seen++
		}
	}
	return
}

var errFound = errors.New("found")

func gridByPanic() (seen int) {
	defer func() { check(recover() == errFound, "the panic is ours") }()
	for i := 0; i < 3; i++ {
		for j := 0; j < 3; j++ {
			if isHit(i, j) {
				panic(errFound)
			}
			seen++
		}
	}
	return
}

func breakouts(n int) {
	for name, leave := range map[string]func() int{
		"leave a grid by break": grid, "leave a grid by panic": gridByPanic,
	} {
		leave := leave
		row(name, n, func() time.Duration {
			return timed(func() {
				sum := 0
				for i := 0; i < n; i++ {
					sum += leave()
				}
				check(sum == 4*n, "four cells each")
			})
		})
	}
}

func channels(n int) {
	for _, capacity := range []int{0, 1, 1024} {
		for _, producers := range []int{1, 4} {
			capacity, producers := capacity, producers
			each := n / producers
			name := fmt.Sprintf("channel of %d from %d", capacity, producers)
			row(name, each*producers, func() time.Duration {
				values, start := make(chan int, capacity), make(chan struct{})
				for p := 0; p < producers; p++ {
					go func() {
						<-start
						for v := 0; v < each; v++ {
							values <- v
						}
					}()
				}
				return timed(func() {
					close(start)
					sum := 0
					for i := 0; i < each*producers; i++ {
						sum += <-values
					}
					check(sum == producers*each*(each-1)/2, "the sum")
				})
			})
		}
	}
}

func groups(n int) {
	row("group of 100 tasks", 1, func() time.Duration {
		var count atomic.Int64
		return timed(func() {
			g, _ := newGroup(context.Background())
			for i := 0; i < n; i++ {
				g.spawn(func() error { count.Add(1); return nil })
			}
			check(g.wait() == nil && count.Load() == int64(n), "all ran")
		})
	})
	row("group of 100 tasks of which one fails", 1, func() time.Duration {
		return timed(func() {
			g, ctx := newGroup(context.Background())
			for i := 0; i < n; i++ {
				i := i
				g.spawn(func() error {
					if i == n/2 {
						return errFound
					}
					<-ctx.Done()
					return ctx.Err()
				})
			}
			check(g.wait() == errFound, "the first error")
		})
	})
}

func resident() float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(status), "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmRSS:" {
			kilobytes, _ := strconv.ParseFloat(fields[1], 64)
			return kilobytes * 1024
		}
	}
	return 0
}

// spawns is first of all, in a fresh heap: its memory is what the goroutines take.
func spawns(n int) {
	var memory float64
	row("spawn and join 1000", 1, func() time.Duration {
		before := resident()
		var began atomic.Int64
		stop := make(chan struct{})
		var all sync.WaitGroup
		took := timed(func() {
			for i := 0; i < n; i++ {
				all.Add(1)
				go func() { began.Add(1); <-stop; all.Done() }()
			}
			for began.Load() < int64(n) {
				runtime.Gosched()
			}
		})
		if memory == 0 {
			memory = (resident() - before) / float64(n)
		}
		return took + timed(func() { close(stop); all.Wait() })
	})
	figure("memory of one that waits", "B", memory)
}

func main() {
	small := false
	for _, arg := range os.Args[1:] {
		switch arg {
		case "--test":
			chosen, small = effort{1, 1, 0}, true
		case "--quick":
			chosen, small = effort{2, 3, 20 * time.Millisecond}, true
		}
	}
	n := func(full, little int) int {
		if small {
			return little
		}
		return full
	}
	debug.SetGCPercent(100) // its default, whatever the environment says
	fmt.Printf("# go: %s, GOMAXPROCS %d\n", runtime.Version(), runtime.GOMAXPROCS(0))
	spawns(n(1000, 100))
	looks(n(1_000_000, 1000))
	children(n(10_000, 100))
	cancelMany(n(100_000, 1000))
	wake(n(1000, 10))
	ticks(n(100, 3))
	breakouts(n(1_000_000, 1000))
	channels(n(80_000, 400))
	groups(100)
}
