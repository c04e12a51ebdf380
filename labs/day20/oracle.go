package day20

import (
	"context"
	"fmt"
	"math"

	"github.com/nexuscore-labs/nexus/reports"
)

// oracle compares three things, point by point: what was acknowledged, what the
// source store holds, and what the vector store holds.
type oracle struct {
	result reports.OracleResult
}

func (o *oracle) note(format string, args ...any) {
	if o.result.Note == "" {
		o.result.Note = fmt.Sprintf(format, args...)
	}
}

// stored is a record or a point.
type stored struct {
	n      uint64
	vector []float32
}

// verify opens what a contender left.
func verify(ctx context.Context, dir string, asked *source, theta float64) (reports.OracleResult, error) {
	records, points, err := readBack(ctx, dir)
	if err != nil {
		return reports.OracleResult{}, err
	}
	return judge(asked, records, points, theta), nil
}

func judge(asked *source, records, points map[uint64]stored, theta float64) reports.OracleResult {
	o := &oracle{}
	for i := range asked.writers {
		if asked.writers[i].wrong {
			o.result.Wrong++
			o.note("writer %d got an answer to another request", i)
		}
	}
	o.acknowledged(asked, records)
	o.followed(records, points, theta)
	return o.result
}

// acknowledged holds the source store against what was acknowledged.
func (o *oracle) acknowledged(asked *source, records map[uint64]stored) {
	may := asked.allowed()
	for i := range asked.writers {
		for _, acked := range asked.writers[i].acked {
			if acked { // looked at by what its record has become
				o.result.Checked++
			}
		}
	}
	for id, a := range may {
		r, there := records[id]
		fits := !a.acked && !there
		for _, c := range a.states {
			fits = fits || (c.op == opDelete && !there) || (c.op != opDelete && there && r.n == c.n && near(c.vector(len(r.vector)), r.vector, 0))
		}
		if !fits {
			o.result.Lost++
			o.note("record %d: its last acknowledged change is not in the source (there: %v, n %d)", id, there, r.n)
		}
	}
	for id, r := range records {
		if may[id] == nil {
			o.result.Phantom++
			o.note("record %d (n %d) of the source was never asked for", id, r.n)
		}
	}
}

// followed holds the vector store against the source store.
func (o *oracle) followed(records, points map[uint64]stored, theta float64) {
	for id, r := range records {
		o.result.Checked++
		switch p, there := points[id]; {
		case !there:
			o.result.Lost++
			o.note("record %d is not in the vector store", id)
		case !near(r.vector, p.vector, theta):
			o.result.Wrong++
			o.note("point %d (n %d) is not record %d (n %d): cosine distance %g", id, p.n, id, r.n, distance(r.vector, p.vector))
		}
	}
	for id, p := range points {
		if _, there := records[id]; !there {
			o.result.Phantom++
			o.note("point %d (n %d) has no record", id, p.n)
		}
	}
}

// rounding is what a cosine distance between equal vectors may come to in float32.
const rounding = 1e-6

func near(a, b []float32, theta float64) bool {
	return len(a) == len(b) && distance(a, b) <= theta+rounding
}

func distance(a, b []float32) float64 {
	var dot, x, y float64
	for i := range a {
		dot, x, y = dot+float64(a[i])*float64(b[i]), x+float64(a[i])*float64(a[i]), y+float64(b[i])*float64(b[i])
	}
	return 1 - dot/math.Sqrt(x*y)
}
