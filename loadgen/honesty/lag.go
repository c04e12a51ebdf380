package honesty

import (
	"context"
	"errors"
	"fmt"
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
	Share        float64  `json:"share"`
	OfferedPerS  float64  `json:"offered_per_s"`
	AchievedPerS float64  `json:"achieved_per_s"`
	LagNs        [3]int64 `json:"lag_ns"` // at Quantiles
	Floor        Floor    `json:"floor"`  // of the same core, measured just before
	Invalid      []string `json:"invalid,omitempty"`
}

// Late says that the lag is over its limit.
func (r LagRow) Late() bool { return r.LagNs[2] > LagNsMax }

// CoreIdle says whether the core lets anything meet the limit.
func (r LagRow) CoreIdle() bool { return r.Floor.LagNs[2] <= LagNsMax }

// MeasureLag drives the null server over TCP with Poisson arrivals at each
// share of what a closed loop reaches.
func MeasureLag(ctx context.Context, place Place, duration time.Duration) (rows []LagRow, top ceiling.Ceiling, err error) {
	top, err = ceiling.Measure(ctx, ceiling.Point{Network: "tcp", Codec: "frame", Depth: ceiling.DepthOne},
		ceiling.CPUs{Generator: place.GeneratorCPU, Server: place.ServerCPU}, duration/2, 1)
	if err != nil {
		return nil, top, err
	}
	for _, share := range LagShares {
		row := LagRow{Share: share, OfferedPerS: share * top.PerSecond}
		if row.Floor, err = MeasureFloor(place.GeneratorCPU, duration/2); err != nil {
			return rows, top, err
		}
		r, err := openLoop(ctx, place, row.OfferedPerS, duration)
		if err != nil {
			return rows, top, fmt.Errorf("lag at %.0f%% of the ceiling: %w", 100*share, err)
		}
		row.AchievedPerS = float64(r.Answered) / (float64(r.ElapsedNs) / 1e9)
		for i, q := range Quantiles {
			row.LagNs[i] = r.Lag.ValueAtQuantile(q)
		}
		row.Invalid = r.Invalid
		rows = append(rows, row)
	}
	return rows, top, nil
}

func openLoop(ctx context.Context, place Place, ratePerS float64, duration time.Duration) (*loadgen.Result, error) {
	server, err := nullserver.Start(nullserver.Config{Network: "tcp", Address: "127.0.0.1:0", Protocol: "frame", CPU: place.ServerCPU})
	if err != nil {
		return nil, err
	}
	r, err := loadgen.Run(ctx, loadgen.Config{
		Target: loadgen.Target{Network: "tcp", Address: server.Address}, Arrival: "poisson", RatePerS: ratePerS,
		Streams: ceiling.Connections, Connections: ceiling.Connections, Warmup: duration / 10, Duration: duration,
		Timeout: 2 * time.Second, Seed: 1, CPUs: place.cpus(), Source: ceiling.NewSource("frame"),
	})
	return r, errors.Join(err, server.Close())
}
