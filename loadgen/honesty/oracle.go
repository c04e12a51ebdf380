package honesty

import (
	"fmt"
	"math"
	"slices"

	"github.com/nexuscore-labs/nexus/loadgen/schedule"
)

// planned is one request of a case and what the script makes of it, in ns from
// the start of the run.
type planned struct {
	id       uint64
	atNs     int64
	leavesNs int64
}

// idOf names the k-th request of a connection.
func idOf(conn, k int) uint64 { return uint64(conn)<<32 | uint64(k) }

// plan computes every request of the case from the seed, and when the script
// lets its answer go, on a network that takes no time. It is deliberately dumb:
// all requests in one list, one pass.
func (c *Case) plan() ([]planned, error) {
	if c.Arrival == "closed" {
		return c.planClosed(), nil
	}
	var all []planned
	endNs := int64(c.Warmup + c.Duration)
	for conn := range c.Connections {
		s, err := schedule.New(c.Arrival, c.RatePerS, c.BurstLen, c.Seed, schedule.Part{Index: conn, Count: c.Connections})
		if err != nil {
			return nil, fmt.Errorf("plan %s: %w", c.Name(), err)
		}
		for k := 0; ; k++ {
			at := s.Next()
			if at >= endNs {
				break
			}
			all = append(all, planned{id: idOf(conn, k), atNs: at})
		}
	}
	script := c.script()
	stallNs := int64(0)
	for _, p := range all {
		if p.id == script.StallFrom && script.Stall > 0 {
			stallNs = p.atNs
		}
	}
	slices.SortStableFunc(all, func(a, b planned) int { return int(a.atNs - b.atNs) })
	last := make([]int64, c.Connections)
	for i := range all {
		p := &all[i]
		due := p.atNs + int64(script.Delay(p.id))
		if conn := p.id >> 32; c.Codec != "frame" { // answers keep their order
			due = max(due, last[conn])
			last[conn] = due
		}
		p.leavesNs = script.Held(due, stallNs)
	}
	return all, nil
}

// planClosed computes a closed loop: each connection sends when its answer came.
func (c *Case) planClosed() []planned {
	script := c.script()
	stallNs := int64(0)
	var all []planned
	for conn := range c.Connections { // the first one's requests start the stall
		now := int64(0)
		for k := 0; now < int64(c.Warmup+c.Duration); k++ {
			id := idOf(conn, k)
			if id == script.StallFrom && script.Stall > 0 {
				stallNs = now
			}
			leaves := script.Held(now+int64(script.Delay(id)), stallNs)
			all = append(all, planned{id, now, leaves})
			now = leaves
		}
	}
	return all
}

// latencies are those of the requests that were due in the measured part.
func (c *Case) latencies(all []planned) []int64 {
	var out []int64
	for _, p := range all {
		if p.atNs >= int64(c.Warmup) {
			out = append(out, p.leavesNs-p.atNs)
		}
	}
	slices.Sort(out)
	return out
}

// quantile is the nearest-rank one of sorted values, 0 for none.
func quantile(sorted []int64, q float64) int64 {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(q / 100 * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}
