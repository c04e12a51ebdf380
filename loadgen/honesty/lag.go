package honesty

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nexuscore-labs/nexus/loadgen"
	"github.com/nexuscore-labs/nexus/loadgen/ceiling"
	"github.com/nexuscore-labs/nexus/loadgen/nullserver"
)

// LagNsMax is the schedule lag at p99.9 that is put up with below 80% of the
// ceiling on an idle core.
const LagNsMax = 50_000

// LagShares are the shares of the ceiling at which the lag is measured.
var LagShares = []float64{0.2, 0.5, 0.79}

// LagRow is the generator's lag at a share of its ceiling.
type LagRow struct {
	Arrival      string   `json:"arrival"`
	Share        float64  `json:"share"`
	OfferedPerS  float64  `json:"offered_per_s"`
	AchievedPerS float64  `json:"achieved_per_s"`
	LagNs        [3]int64 `json:"lag_ns"`            // at Quantiles
	QueueingNs   [3]int64 `json:"queueing_ns"`       // of requests due at random times, waiting for each other alone
	Floor        Floor    `json:"floor"`             // of the same core, measured just before
	Wrong        string   `json:"wrong,omitempty"`   // of the answers; a pass is then impossible
	Invalid      []string `json:"invalid,omitempty"` // why the run's lag is worth nothing
}

// Late says that the lag is over its limit. How long random arrivals wait behind
// each other (QueueingNs) explains a lag and excuses none: a slower generator
// would only give itself more room.
func (r LagRow) Late() bool { return r.LagNs[2] > LagNsMax }

// CoreIdle says whether the core lets anything meet the limit.
func (r LagRow) CoreIdle() bool { return r.Floor.LagNs[2] <= LagNsMax }

// MeasureLag drives the null server over TCP with constant and Poisson arrivals
// at each share of what a closed loop reaches.
func MeasureLag(ctx context.Context, place Place, duration time.Duration) (rows []LagRow, top ceiling.Ceiling, err error) {
	top, err = ceiling.Measure(ctx, ceiling.Point{Network: "tcp", Codec: "frame", Depth: ceiling.DepthOne},
		ceiling.CPUs{Generator: place.GeneratorCPU, Server: place.ServerCPU}, duration/2, 1)
	if err != nil {
		return nil, top, err
	}
	for _, arrival := range []string{"constant", "poisson"} {
		for _, share := range LagShares {
			row, err := lagAt(ctx, place, duration, arrival, share, top)
			if err != nil {
				return rows, top, fmt.Errorf("lag of %s arrivals at %.0f%% of the ceiling: %w", arrival, 100*share, err)
			}
			rows = append(rows, row)
		}
	}
	return rows, top, nil
}

func lagAt(ctx context.Context, place Place, duration time.Duration, arrival string, share float64, top ceiling.Ceiling) (row LagRow, err error) {
	row = LagRow{Arrival: arrival, Share: share, OfferedPerS: share * top.PerSecond}
	if arrival == "poisson" {
		row.QueueingNs = queueing(row.OfferedPerS, top.PerCPUSecond)
	}
	if row.Floor, err = MeasureFloor(place.GeneratorCPU, duration/6); err != nil {
		return row, err
	}
	r, err := openLoop(ctx, place, arrival, row.OfferedPerS, duration)
	if err != nil {
		return row, err
	}
	row.AchievedPerS = float64(r.Answered) / (float64(r.ElapsedNs) / 1e9)
	for i, q := range Quantiles {
		row.LagNs[i] = r.Lag.ValueAtQuantile(q)
	}
	row.Invalid = r.Invalid
	if bad := r.Wrong + r.Errors + r.Timeouts; bad > 0 {
		row.Wrong = fmt.Sprintf("%d of %d requests were answered wrongly or not at all", bad, r.Sent)
	}
	return row, nil
}

const queueingDraws = 400_000

// queueing is how long Poisson arrivals wait for one server that takes the same
// time for each (M/D/1), by Lindley's recursion.
func queueing(ratePerS, perS float64) (lagNs [3]int64) {
	random := rand.New(rand.NewPCG(1, 2))
	serviceNs, gapNs := 1e9/perS, 1e9/ratePerS
	waits := make([]int64, queueingDraws)
	wait := 0.0
	for i := range waits {
		waits[i] = int64(wait)
		wait = max(0, wait+serviceNs-gapNs*random.ExpFloat64())
	}
	slices.Sort(waits)
	for i, q := range Quantiles {
		lagNs[i] = quantile(waits, q)
	}
	return lagNs
}

func openLoop(ctx context.Context, place Place, arrival string, ratePerS float64, duration time.Duration) (*loadgen.Result, error) {
	server, err := nullserver.Start(nullserver.Config{Network: "tcp", Address: "127.0.0.1:0", Protocol: "frame", CPU: place.ServerCPU})
	if err != nil {
		return nil, err
	}
	r, err := loadgen.Run(ctx, loadgen.Config{
		Target: loadgen.Target{Network: "tcp", Address: server.Address}, Arrival: arrival, RatePerS: ratePerS,
		Streams: ceiling.Connections, Connections: ceiling.Connections, Warmup: duration / 10, Duration: duration,
		Timeout: 2 * time.Second, Seed: 1, CPUs: place.cpus(), Source: ceiling.NewSource("frame"),
	})
	return r, errors.Join(err, server.Close())
}
