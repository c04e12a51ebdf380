package projcache

import (
	"fmt"
	"time"
)

// Rehearsal runs a packet that is answered over and over, outside of any driver.
// It may be used by one goroutine.
type Rehearsal struct {
	program *Program
	cache   *Cache
}

// Rehearse loads a program that puts each answered request back. With inspect it
// also looks at every answer: a projection whose 8-byte words are not all equal
// counts as Torn, so values must be made like that.
func (c *Cache) Rehearse(service Service, inspect bool) (*Rehearsal, error) {
	p, err := c.load(service, map[string]any{"rehearse": true, "inspect": inspect})
	if err != nil {
		return nil, err
	}
	return &Rehearsal{program: p, cache: c}, nil
}

// Run runs the packet repeat times on the calling thread's CPU and returns the time
// of one run: the program's cost and that of putting the packet back, an upper bound.
// Whether each run answered is in the cache's Counts.
func (r *Rehearsal) Run(packet []byte, repeat int) (time.Duration, error) {
	_, each, err := r.program.program.Benchmark(packet, repeat, nil)
	if err != nil {
		return 0, fmt.Errorf("projcache: run the program %d times: %w", repeat, err)
	}
	return each, nil
}

// Close unloads the program.
func (r *Rehearsal) Close() error { return r.program.Close() }
