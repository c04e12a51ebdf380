package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/nexuscore-labs/nexus/loadgen/files"
	"github.com/nexuscore-labs/nexus/machine"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/reports/stats"
)

const (
	fioFileLen = int64(256) << 20
	fioWithin  = 0.05 // of fio's figure
	fioTimeMin = time.Second
)

// fioWorkload is one thing that both do to the same file.
type fioWorkload struct {
	pattern  files.Pattern
	depth    int
	fioRW    []string // its name at fio
	fioShare string   // where fio's JSON has it
}

var fioWorkloads = []fioWorkload{
	{files.RandomRead, 64, []string{"--rw=randread", "--norandommap"}, "read"},
	{files.SyncedWrite, 1, []string{"--rw=write", "--fdatasync=1"}, "write"},
}

// fioComparison is one figure of one workload, ours and fio's, pair by pair.
type fioComparison struct {
	Workload string            `json:"workload"`
	Figure   string            `json:"figure"`
	Unit     string            `json:"unit"`
	Ours     []float64         `json:"ours"`
	Fio      []float64         `json:"fio"`
	Ratio    *reports.Interval `json:"ratio"` // ours to fio's; null: no interval
	// Verdict is within (the interval lies within 5%), differs (it lies beyond),
	// or inconclusive.
	Verdict string `json:"verdict"`
}

// fioFigures are what one run of either gives.
type fioFigures struct {
	ratePerS, p50Ns, p99Ns float64
}

// calibrateAgainstFio lets both read and write one file from the same CPU, in
// alternating order. Latency is fio's total latency (lat), which like ours
// begins before the submission.
func calibrateAgainstFio(ctx context.Context, term *terminal, flags calibrateFlags) (err error) {
	fio, err := exec.LookPath("fio")
	if err != nil {
		return codeError{errors.New("fio is not installed: nexus setup --for calibrate"), exitEnvironment}
	}
	plan, err := machine.PlanCPUs()
	if err != nil {
		return codeError{err, exitEnvironment}
	}
	dir, err := os.MkdirTemp(".", ".nexus-fio-") // the temporary folder may be a tmpfs
	if err != nil {
		return codeError{fmt.Errorf("make a folder for the file: %w", err), exitEnvironment}
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &fioBench{fio: fio, cpu: plan.Generator[0], path: filepath.Join(dir, "data"), duration: max(flags.duration.Round(time.Second), fioTimeMin)}
	line := newStatusLine(term)
	var compared []fioComparison
	for _, w := range fioWorkloads {
		c, err := b.compare(ctx, w, flags.pairs, line)
		if err != nil {
			line.end()
			return codeError{err, exitEnvironment}
		}
		compared = append(compared, c...)
	}
	line.end()
	if term.json {
		err = term.printJSON(compared)
	} else {
		err = term.printFio(compared)
	}
	return errors.Join(err, fioVerdict(compared))
}

// fioVerdict is the command's exit code: a figure that differs, one that the
// pairs don't settle, or nil.
func fioVerdict(compared []fioComparison) error {
	code := exitPass
	for _, c := range compared {
		switch {
		case c.Verdict == "differs":
			return verdictError{exitFail}
		case c.Verdict != "within":
			code = exitInvalid
		}
	}
	if code != exitPass {
		return verdictError{code}
	}
	return nil
}

// fioBench runs either program on one file.
type fioBench struct {
	fio, path string
	cpu       int
	duration  time.Duration
}

func (b *fioBench) config(w fioWorkload, seed uint64) files.Config {
	return files.Config{
		Path: b.path, Len: fioFileLen, Pattern: w.pattern, BlockLen: 4096, Depth: w.depth,
		Warmup: b.duration / 10, Duration: b.duration, Seed: seed, CPU: b.cpu,
	}
}

func (b *fioBench) compare(ctx context.Context, w fioWorkload, pairs int, line *statusLine) ([]fioComparison, error) {
	const seed = 1
	name := fmt.Sprintf("%s 4 KiB, depth %d", w.pattern, w.depth)
	if err := files.Prepare(b.config(w, seed)); err != nil {
		return nil, err
	}
	var ours, theirs []fioFigures
	for pair := range pairs {
		line.show("%s: pair %d of %d", name, pair+1, pairs)
		order := []bool{true, false}
		if pair%2 == 1 {
			order = []bool{false, true}
		}
		for _, own := range order {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if own {
				f, err := b.ours(w, seed)
				if err != nil {
					return nil, err
				}
				ours = append(ours, f)
				continue
			}
			f, err := b.theirs(ctx, w)
			if err != nil {
				return nil, err
			}
			theirs = append(theirs, f)
		}
	}
	figures := []struct {
		name, unit string
		of         func(fioFigures) float64
	}{
		{"rate", "1/s", func(f fioFigures) float64 { return f.ratePerS }},
		{"latency p50", "ns", func(f fioFigures) float64 { return f.p50Ns }},
		{"latency p99", "ns", func(f fioFigures) float64 { return f.p99Ns }},
	}
	var out []fioComparison
	for _, figure := range figures {
		c := fioComparison{Workload: name, Figure: figure.name, Unit: figure.unit}
		for i := range ours {
			c.Ours, c.Fio = append(c.Ours, figure.of(ours[i])), append(c.Fio, figure.of(theirs[i]))
		}
		ratio := stats.RatioCI(c.Ours, c.Fio, seed)
		c.Ratio, c.Verdict = ratio.Ptr(), withinFio(ratio)
		out = append(out, c)
	}
	return out, nil
}

// withinFio judges a whole interval: one that reaches over a limit settles nothing.
func withinFio(ratio stats.Interval) string {
	lo, hi := 1-fioWithin, 1+fioWithin
	switch {
	case !ratio.Valid():
		return "inconclusive"
	case ratio.Lo >= lo && ratio.Hi <= hi:
		return "within"
	case ratio.Hi < lo || ratio.Lo > hi:
		return "differs"
	}
	return "inconclusive"
}

func (b *fioBench) ours(w fioWorkload, seed uint64) (fioFigures, error) {
	r, err := files.Run(b.config(w, seed))
	if err != nil {
		return fioFigures{}, err
	}
	if r.Completed == 0 {
		return fioFigures{}, fmt.Errorf("%s: nothing completed within %v", w.pattern, b.duration)
	}
	return fioFigures{r.RatePerS(), float64(r.Latency.ValueAtQuantile(50)), float64(r.Latency.ValueAtQuantile(99))}, nil
}

// fioOutput is the part of fio's JSON that is read.
type fioOutput struct {
	Jobs []map[string]json.RawMessage `json:"jobs"`
}

type fioDirection struct {
	IOPS    float64 `json:"iops"`
	Latency struct {
		Percentile map[string]float64 `json:"percentile"`
	} `json:"lat_ns"`
}

func (b *fioBench) theirs(ctx context.Context, w fioWorkload) (fioFigures, error) {
	args := append([]string{
		"--name=nexus", "--filename=" + b.path, "--size=" + strconv.FormatInt(fioFileLen, 10), "--ioengine=io_uring", "--direct=1", "--bs=4k",
		"--iodepth=" + strconv.Itoa(w.depth), "--time_based", fmt.Sprintf("--runtime=%d", int(b.duration.Seconds())), "--ramp_time=" + fmt.Sprintf("%dms", b.duration.Milliseconds()/10),
		"--cpus_allowed=" + strconv.Itoa(b.cpu), "--registerfiles", "--fixedbufs", "--randrepeat=0", "--allow_file_create=0",
		"--lat_percentiles=1", "--clat_percentiles=0", "--percentile_list=50:99", "--output-format=json",
	}, w.fioRW...)
	cmd := exec.CommandContext(ctx, b.fio, args...)
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			return fioFigures{}, fmt.Errorf("fio: %w: %.300s", err, failed.Stderr)
		}
		return fioFigures{}, fmt.Errorf("fio: %w", err)
	}
	return parseFio(out, w.fioShare)
}

// parseFio reads the figures of one direction; a missing one is an error.
func parseFio(out []byte, direction string) (fioFigures, error) {
	var parsed fioOutput
	if err := json.Unmarshal(out, &parsed); err != nil {
		return fioFigures{}, fmt.Errorf("fio's output: %w", err)
	}
	if len(parsed.Jobs) != 1 {
		return fioFigures{}, fmt.Errorf("fio's output has %d jobs", len(parsed.Jobs))
	}
	var d fioDirection
	if err := json.Unmarshal(parsed.Jobs[0][direction], &d); err != nil {
		return fioFigures{}, fmt.Errorf("fio's %s figures: %w", direction, err)
	}
	f := fioFigures{d.IOPS, d.Latency.Percentile["50.000000"], d.Latency.Percentile["99.000000"]}
	if !(math.Min(f.ratePerS, math.Min(f.p50Ns, f.p99Ns)) > 0) {
		return fioFigures{}, fmt.Errorf("fio gave no %s figures: %+v", direction, f)
	}
	return f, nil
}

func (t *terminal) printFio(compared []fioComparison) error {
	fmt.Fprintln(t.stdout, "the generator's file side beside fio (io_uring, O_DIRECT), the same file and CPU; latency from before the submission")
	table := tabwriter.NewWriter(t.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "workload\tfigure\tnexus\tfio\tratio\t95% interval\twithin 5%\t")
	for _, c := range compared {
		show := func(v float64) string {
			if c.Unit == "ns" {
				return fmt.Sprint(time.Duration(v).Round(time.Microsecond))
			}
			return fmt.Sprintf("%.0f/s", v)
		}
		ratio, interval := "not measured", ""
		if c.Ratio != nil {
			ratio, interval = fmt.Sprintf("%.3f", c.Ratio.Center), fmt.Sprintf("[%.3f, %.3f] of %d pairs", c.Ratio.Lo, c.Ratio.Hi, c.Ratio.N)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", c.Workload, c.Figure, show(stats.Median(c.Ours)), show(stats.Median(c.Fio)), ratio, interval, c.Verdict)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	return nil
}
