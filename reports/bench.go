package reports

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
)

// benchText is the result in the Go benchmark data format
// (https://go.dev/design/14313-benchmark-format): one line per valid trial, so
// that benchstat has the trials as its sample. Latencies are from the intended
// send time.
//
//	benchstat -col /contender -filter /point:w256 bench.txt
func benchText(r *Result) []byte {
	var out bytes.Buffer
	config := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&out, "%s: %s\n", key, strings.Join(strings.Fields(value), " "))
		}
	}
	config("goos", "linux")
	config("goarch", r.Environment.Arch)
	config("pkg", fmt.Sprintf("nexus/day%02d", r.Day))
	config("cpu", r.Environment.CPUModel)
	config("kernel", r.Environment.Kernel)
	config("lab", r.Lab)
	config("scenario", r.Scenario)
	config("mode", r.Mode)
	config("seed", fmt.Sprint(r.Seed))
	out.WriteString("\nUnit ops/s better=higher\n")
	for _, unit := range []string{"p50-ns", "p90-ns", "p99-ns", "p99.9-ns", "service-p99-ns", "cpu-ns/op"} {
		fmt.Fprintf(&out, "Unit %s better=lower\n", unit)
	}
	out.WriteByte('\n')
	for i := range r.Trials {
		benchLine(&out, r, &r.Trials[i])
	}
	return out.Bytes()
}

func benchLine(out *bytes.Buffer, r *Result, t *Trial) {
	if t.Status != "ok" || t.Counts.Completed == 0 {
		return
	}
	fmt.Fprintf(out, "BenchmarkDay%02d/point=%s/contender=%s-%d\t%d\t%g ops/s", r.Day,
		benchWord(t.Point), benchWord(t.Contender), max(1, r.Environment.CPUs), t.Counts.Completed, t.ThroughputPerS)
	if t.LatencyNs.Count > 0 {
		fmt.Fprintf(out, "\t%d p50-ns\t%d p90-ns\t%d p99-ns\t%d p99.9-ns", t.LatencyNs.P50, t.LatencyNs.P90, t.LatencyNs.P99, t.LatencyNs.P999)
	}
	if t.ServiceNs.Count > 0 {
		fmt.Fprintf(out, "\t%d service-p99-ns", t.ServiceNs.P99)
	}
	if cpu := t.cpuNsPerOp(); cpu != nil {
		fmt.Fprintf(out, "\t%g cpu-ns/op", *cpu)
	}
	out.WriteByte('\n')
}

// benchWord is text as one part of a benchmark name.
func benchWord(text string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsSpace(c) || c == '/' || c == '=' || !unicode.IsPrint(c) {
			return '_'
		}
		return c
	}, text)
}

// cpuNsPerOp is nil when the trial has no bill or no right answer.
func (t *Trial) cpuNsPerOp() *float64 {
	used := t.Resources.UserNs + t.Resources.SystemNs
	if used <= 0 || t.Counts.Completed == 0 {
		return nil
	}
	perOp := float64(used) / float64(t.Counts.Completed)
	return &perOp
}
