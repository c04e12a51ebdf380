package cli

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/nexuscore-labs/nexus/loadgen"
	"github.com/nexuscore-labs/nexus/loadgen/ceiling"
	"github.com/nexuscore-labs/nexus/loadgen/honesty"
	"github.com/nexuscore-labs/nexus/loadgen/nullserver"
	"github.com/nexuscore-labs/nexus/machine"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/reports/stats"
)

// wrkComparison is the generator beside wrk at one number of connections.
type wrkComparison struct {
	Connections int               `json:"connections"`
	Ours        []float64         `json:"ours_per_cpu_s"` // of each pair
	Wrk         []float64         `json:"wrk_per_cpu_s"`
	Ratio       *reports.Interval `json:"ratio"` // ours to wrk, median of pairs; null: no interval
	// Paced is the constant-rate accuracy at half of what the closed loop
	// reached: verified answers to what was asked for. wrk has no constant rate.
	PacedPerS     float64 `json:"paced_per_s"`
	PacedAchieved float64 `json:"paced_achieved"`
	PacedLagNs    int64   `json:"paced_lag_p999_ns"`
	// PacedInvalid is what the generator says against that run itself.
	PacedInvalid []string `json:"paced_invalid,omitempty"`
}

// wrkRequests and wrkErrors are what wrk says of itself.
var (
	wrkRequests = regexp.MustCompile(`(\d+) requests in`)
	wrkErrors   = regexp.MustCompile(`Socket errors:.*|Non-2xx.*`)
)

// calibrateAgainstWrk drives one HTTP server with both, from the same CPU.
func calibrateAgainstWrk(ctx context.Context, term *terminal, flags calibrateFlags) error {
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		return codeError{errors.New("wrk is not installed: nexus setup --for calibrate"), exitEnvironment}
	}
	place, err := twoPlaces()
	if err != nil {
		return err
	}
	defer roomForSpinners()()
	line := newStatusLine(term)
	var compared []wrkComparison
	for _, connections := range flags.connections {
		c, err := compareWithWrk(ctx, wrk, place, connections, flags, line)
		if err != nil {
			line.end()
			return drivingError(err)
		}
		compared = append(compared, c)
	}
	line.end()
	if term.json {
		return term.printJSON(compared)
	}
	return term.printWrk(compared)
}

func compareWithWrk(ctx context.Context, wrk string, place honesty.Place, connections int, flags calibrateFlags, line *statusLine) (out wrkComparison, err error) {
	out.Connections = connections
	server, err := nullserver.Start(nullserver.Config{Network: "tcp", Address: "127.0.0.1:0", Protocol: "http1", CPU: place.ServerCPU})
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	best := 0.0
	ours := func() error {
		r, err := driveHTTP(ctx, server.Address, place, connections, 0, flags.duration)
		if err != nil {
			return err
		}
		out.Ours = append(out.Ours, float64(r.Answered)/(float64(r.CPUNs)/1e9))
		best = max(best, float64(r.Answered)/(float64(r.ElapsedNs)/1e9))
		return nil
	}
	theirs := func() error {
		perCPU, err := driveWrk(ctx, wrk, server.Address, place, connections, flags.duration)
		out.Wrk = append(out.Wrk, perCPU)
		return err
	}
	for pair := range flags.pairs {
		line.show("%d connections: pair %d of %d", connections, pair+1, flags.pairs)
		first, second := ours, theirs
		if pair%2 == 1 {
			first, second = theirs, ours
		}
		if err := first(); err != nil {
			return out, err
		}
		if err := second(); err != nil {
			return out, err
		}
	}
	out.Ratio = stats.RatioCI(out.Ours, out.Wrk, uint64(connections)).Ptr()
	out.PacedPerS = best / 2
	paced, err := driveHTTP(ctx, server.Address, place, connections, out.PacedPerS, max(flags.duration, time.Second))
	if err != nil {
		return out, err
	}
	out.PacedAchieved = float64(paced.Answered) / (float64(paced.ElapsedNs) / 1e9) / out.PacedPerS
	out.PacedLagNs, out.PacedInvalid = paced.Lag.ValueAtQuantile(99.9), paced.Invalid
	return out, nil
}

// driveHTTP runs our generator: a closed loop, or at a constant rate.
func driveHTTP(ctx context.Context, address string, place honesty.Place, connections int, ratePerS float64, duration time.Duration) (*loadgen.Result, error) {
	arrival := "closed"
	if ratePerS > 0 {
		arrival = "constant"
	}
	r, err := loadgen.Run(ctx, loadgen.Config{
		Target: loadgen.Target{Network: "tcp", Address: address}, Codec: "http1", Arrival: arrival, RatePerS: ratePerS,
		Streams: connections, Connections: connections, Warmup: duration / 10, Duration: duration,
		Timeout: 2 * time.Second, CPUs: []int{place.GeneratorCPU}, Source: ceiling.NewSource("http1"),
	})
	if err != nil {
		return nil, err
	}
	if r.Wrong+r.Errors+r.Timeouts > 0 || r.CPUNs == 0 || r.ElapsedNs == 0 {
		return nil, fmt.Errorf("%w: %d connections: %d wrong answers, %d errors, %d timeouts: %s%s", loadgen.ErrNotRight, connections, r.Wrong, r.Errors, r.Timeouts, r.FirstWrong, r.FirstError)
	}
	return r, nil
}

// driveWrk runs wrk with one thread on the generator's CPU and returns its
// requests per second of its CPU time.
func driveWrk(ctx context.Context, wrk, address string, place honesty.Place, connections int, duration time.Duration) (float64, error) {
	seconds := max(1, int(duration.Round(time.Second)/time.Second)) // it knows whole ones only
	cmd := exec.CommandContext(ctx, wrk, "-t1", "-c"+strconv.Itoa(connections), fmt.Sprintf("-d%ds", seconds), "http://"+address+"/")
	cmd.WaitDelay = time.Second
	type ended struct {
		out []byte
		err error
	}
	done := make(chan ended, 1)
	machine.GoPinned([]int{place.GeneratorCPU}, func(pinned error) {
		if pinned != nil {
			done <- ended{nil, pinned}
			return
		}
		out, err := cmd.CombinedOutput()
		done <- ended{out, err}
	})
	end := <-done
	if end.err != nil {
		return 0, fmt.Errorf("wrk: %w: %.300s", end.err, end.out)
	}
	if bad := wrkErrors.Find(end.out); bad != nil {
		return 0, fmt.Errorf("wrk: %s", bad)
	}
	match := wrkRequests.FindSubmatch(end.out)
	if match == nil {
		return 0, fmt.Errorf("wrk says nothing of its requests: %.300s", end.out)
	}
	n, err := strconv.ParseFloat(string(match[1]), 64)
	cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if err != nil || cpu <= 0 {
		return 0, fmt.Errorf("wrk made %s requests in %v of CPU time", match[1], cpu)
	}
	return n / cpu.Seconds(), nil
}

func (t *terminal) printWrk(compared []wrkComparison) error {
	fmt.Fprintln(t.stdout, "verified requests per second of the generator's CPU time, HTTP/1.1 over TCP, unpipelined, the same server")
	table := tabwriter.NewWriter(t.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "connections\tnexus\twrk\tratio\t95% interval\tconstant rate asked\tachieved\tlag p99.9\t")
	for _, c := range compared {
		ratio, interval := "not measured", ""
		if c.Ratio != nil {
			ratio, interval = fmt.Sprintf("%.2f", c.Ratio.Center), fmt.Sprintf("[%.2f, %.2f] of %d pairs", c.Ratio.Lo, c.Ratio.Hi, c.Ratio.N)
		}
		mark := ""
		if len(c.PacedInvalid) > 0 {
			mark = "invalid"
		}
		fmt.Fprintf(table, "%d\t%.0f\t%.0f\t%s\t%s\t%.0f/s\t%.2f%%\t%v\t%s\n", c.Connections, stats.Median(c.Ours), stats.Median(c.Wrk), ratio, interval,
			c.PacedPerS, 100*c.PacedAchieved, shortly(c.PacedLagNs), mark)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	for _, c := range compared {
		for _, reason := range c.PacedInvalid {
			fmt.Fprintf(t.stdout, "constant rate at %d connections is invalid: %s\n", c.Connections, reason)
		}
	}
	return nil
}
