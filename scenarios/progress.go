package scenarios

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/nexuscore-labs/nexus/machine"
	"github.com/nexuscore-labs/nexus/reports"
)

// ProgressFile is the file in a run's folder to which the run appends one JSON
// object per line as it goes on, for whoever watches. Nothing is ever
// rewritten, so a reader may come late, die and come back; the run never waits
// for one.
const ProgressFile = "progress.jsonl"

// Bounds of the progress file.
const (
	progressBytesMax = 32 << 20 // past it only the end is still written
	progressLineMax  = 64 << 10
	progressTickNs   = int64(250 * time.Millisecond) // between two lines of one trial
	bucketsPerOctave = 2                             // of a trial's latency shape
)

// Progress is one line of the progress file: an event, flattened.
type Progress struct {
	At        time.Time `json:"at"`
	Kind      EventKind `json:"kind"`
	Done      int       `json:"done"`
	Total     int       `json:"total"`
	ETANs     int64     `json:"eta_ns,omitempty"`
	Contender string    `json:"contender,omitempty"`
	Point     string    `json:"point,omitempty"`
	Round     int       `json:"round,omitempty"`
	Attempt   int       `json:"attempt,omitempty"`

	Run   *ProgressRun   `json:"run,omitempty"`
	Tick  *ProgressTick  `json:"tick,omitempty"`
	Trial *ProgressTrial `json:"trial,omitempty"`
	Gates []ProgressGate `json:"gates,omitempty"` // so far, at the end of a round

	Check      string `json:"check,omitempty"`
	CheckDone  int    `json:"check_done,omitempty"`
	CheckTotal int    `json:"check_total,omitempty"`
	Message    string `json:"message,omitempty"`
	Verdict    string `json:"verdict,omitempty"`   // of kind done
	ExitCode   int    `json:"exit_code,omitempty"` // of kind done
}

// ProgressRun says which run it is; of kind plan.
type ProgressRun struct {
	Title      string            `json:"title"`
	Scenario   string            `json:"scenario"`
	Mode       string            `json:"mode"`
	Folder     string            `json:"folder"`
	Contenders []ProgressContend `json:"contenders"`
	Owner      *machine.Owner    `json:"owner,omitempty"` // the process that runs it
}

// ProgressContend is one contender and how many trials it has.
type ProgressContend struct {
	Name   string `json:"name"`
	Role   string `json:"role"`
	Trials int    `json:"trials"`
}

// ProgressTick is the rate since the line before, and the percentiles of the
// last tenth of a second.
type ProgressTick struct {
	OffsetNs int64   `json:"offset_ns"` // from the start of the measured part
	PerS     float64 `json:"per_s"`
	P50Ns    int64   `json:"p50_ns"`
	P99Ns    int64   `json:"p99_ns"`
}

// ProgressTrial is a finished trial in short.
type ProgressTrial struct {
	Status  string          `json:"status"`
	Reason  string          `json:"reason,omitempty"`
	PerS    float64         `json:"per_s"`
	Latency reports.Latency `json:"latency_ns"`
	// Shape counts latencies in buckets of half an octave: Shape[i] of those
	// with ⌊2·log₂ ns⌋ = ShapeFrom + i.
	ShapeFrom int             `json:"shape_from"`
	Shape     []int64         `json:"shape,omitempty"`
	Stages    []ProgressStage `json:"stages,omitempty"`
	StagesOf  string          `json:"stages_of,omitempty"` // StagesOfRequests or StagesOfThreads
	Events    []string        `json:"events,omitempty"`
}

// Whose time the stages of a trial share out.
const (
	StagesOfRequests = "requests"
	StagesOfThreads  = "threads"
)

// ProgressStage is a part of where the time went.
type ProgressStage struct {
	Name  string  `json:"name"`
	Share float64 `json:"share"`
}

// ProgressGate is a gate as it stands.
type ProgressGate struct {
	ID      string   `json:"id"`
	Status  string   `json:"status"`
	Value   *float64 `json:"value"`
	Limit   float64  `json:"limit"`
	Compare string   `json:"compare"`
	Unit    string   `json:"unit"`
}

// journal writes the progress file. What it can't write is dropped: a full disk
// ends a run elsewhere.
type journal struct {
	file  *os.File
	bytes int64
	tick  int64  // offset of the trial's last written tick
	since uint64 // answers since then
}

func openJournal(folder string) (*journal, error) {
	file, err := os.OpenFile(filepath.Join(folder, ProgressFile), os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return nil, environmentError("", "open the progress file: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(environmentError("", "open the progress file: %w", err), file.Close())
	}
	j := &journal{file: file, bytes: info.Size()}
	last := []byte{'\n'}
	if j.bytes > 0 {
		if _, err := file.ReadAt(last, j.bytes-1); err != nil {
			return nil, errors.Join(environmentError("", "read the progress file: %w", err), file.Close())
		}
	}
	if last[0] != '\n' { // the run that is continued was killed in the middle of a line
		j.write([]byte{'\n'})
	}
	return j, nil
}

func (j *journal) write(line []byte) {
	n, _ := j.file.Write(line)
	j.bytes += int64(n)
}

func (j *journal) append(p Progress) {
	if j.bytes > progressBytesMax && p.Kind != EventDone {
		return
	}
	line, err := json.Marshal(p)
	if err != nil || len(line) > progressLineMax {
		return
	}
	j.write(append(line, '\n'))
}

// event writes one event, or keeps a tick back until enough time has passed.
func (j *journal) event(e Event) {
	p := Progress{
		At: time.Now(), Kind: e.Kind, Done: e.Done, Total: e.Total, ETANs: int64(e.ETA), Contender: e.Contender, Point: e.Point,
		Round: e.Round, Attempt: e.Attempt, Check: e.Check, CheckDone: e.CheckDone, CheckTotal: e.CheckTotal, Message: e.Message,
	}
	switch e.Kind {
	case EventTrialStarted:
		j.tick, j.since = 0, 0
	case EventTick:
		j.since += e.Tick.Completed
		passed := e.Tick.OffsetNs - j.tick
		if passed < progressTickNs && j.tick > 0 {
			return
		}
		p.Tick = &ProgressTick{OffsetNs: e.Tick.OffsetNs, P50Ns: e.Tick.P50Ns, P99Ns: e.Tick.P99Ns}
		if passed > 0 {
			p.Tick.PerS = float64(j.since) / (float64(passed) / 1e9)
		}
		j.tick, j.since = e.Tick.OffsetNs, 0
	case EventTrialFinished:
		p.Trial = progressTrial(e.Trial)
	}
	j.append(p)
}

func progressTrial(t *reports.Trial) *ProgressTrial {
	p := &ProgressTrial{Status: t.Status, Reason: t.Reason, PerS: t.ThroughputPerS, Latency: t.LatencyNs}
	p.Stages, p.StagesOf = stagesOf(t)
	const eventsMax = 8
	for _, e := range t.Events[:min(eventsMax, len(t.Events))] {
		p.Events = append(p.Events, e.Name)
	}
	if h, err := reports.DecodeHistogram(t.Histograms.LatencyHDR); err == nil && t.Histograms.LatencyHDR != "" {
		p.ShapeFrom, p.Shape = shapeOf(h)
	}
	return p
}

// shapeOf is a histogram in coarse buckets.
func shapeOf(h *hdrhistogram.Histogram) (from int, counts []int64) {
	if h.TotalCount() == 0 {
		return 0, nil
	}
	octave := func(ns int64) int { return int(bucketsPerOctave * math.Log2(float64(max(1, ns)))) }
	from = octave(h.Min())
	counts = make([]int64, octave(h.Max())-from+1)
	for _, bar := range h.Distribution() {
		if bar.Count > 0 {
			counts[min(max(octave(bar.From)-from, 0), len(counts)-1)] += bar.Count
		}
	}
	return from, counts
}

// stagesOf is where the time of requests went. Where requests were not broken
// down it is what the contender's threads did, as the kernel saw it; none where
// the probes did not run.
func stagesOf(t *reports.Trial) (stages []ProgressStage, of string) {
	if requests := requestStages(t.Stages); len(requests) > 0 {
		return requests, StagesOfRequests
	}
	sums, all := map[string]float64{}, 0.0
	for _, k := range t.Kernel {
		if k.Unit == "ns" && (k.Probe == "oncpu" || k.Probe == "runqueue" || k.Probe == "offcpu") {
			sums[k.Probe] += k.Sum
			all += k.Sum
		}
	}
	if all == 0 {
		return nil, ""
	}
	return []ProgressStage{{"on CPU", sums["oncpu"] / all}, {"run queue", sums["runqueue"] / all}, {"off CPU", sums["offcpu"] / all}}, StagesOfThreads
}

// requestStages are the stages of all joined requests, in order, that took half
// a percent or more.
func requestStages(b *reports.StageBreakdown) []ProgressStage {
	if b == nil {
		return nil
	}
	var stages []ProgressStage
	total := 0.0
	for i := range b.Bands {
		for _, s := range b.Bands[i].Stages {
			ns := s.MeanNs * float64(b.Bands[i].Joined)
			total += ns
			at := slices.IndexFunc(stages, func(known ProgressStage) bool { return known.Name == s.Name })
			if at < 0 {
				at, stages = len(stages), append(stages, ProgressStage{Name: s.Name})
			}
			stages[at].Share += ns
		}
	}
	for i := range stages {
		stages[i].Share /= total
	}
	return slices.DeleteFunc(stages, func(s ProgressStage) bool { return !(s.Share >= 0.005) })
}

// plan writes which run this is.
func (j *journal) plan(r *runner, e Event) {
	s := r.options.Scenario
	run := &ProgressRun{Title: fmt.Sprintf("Day %d: %s", r.options.Lab.Day, r.options.Lab.Title), Scenario: s.Name, Mode: s.Mode, Folder: r.folder.path}
	if owner, err := machine.OwnerOf(os.Getpid()); err == nil {
		run.Owner = &owner
	}
	planned := map[string]int{}
	for _, slot := range r.slots {
		planned[slot.contender]++
	}
	for _, c := range s.Contenders {
		role := ""
		if known := r.bench.contender(c.Name); known != nil {
			role = known.Role
		}
		run.Contenders = append(run.Contenders, ProgressContend{Name: c.Name, Role: role, Trials: planned[c.Name]})
	}
	j.append(Progress{At: time.Now(), Kind: e.Kind, Done: e.Done, Total: e.Total, ETANs: int64(e.ETA), Run: run})
}

// gatesSoFar judges the gates on the trials that there are. Checks come last,
// so gates on them are still open.
func (r *runner) gatesSoFar() []ProgressGate {
	e := evidence{scenario: r.options.Scenario, board: newBoard(r.slots, r.records)}
	for i := range r.options.Lab.Contenders {
		c := &r.options.Lab.Contenders[i]
		if c.Role == reports.RolePeer {
			e.peers = append(e.peers, c.Name)
		}
	}
	var gates []ProgressGate
	for i := range e.scenario.Thresholds {
		t := &e.scenario.Thresholds[i]
		if t.Class != ClassGate || t.Point == "" {
			continue
		}
		g := e.judge(t)
		gates = append(gates, ProgressGate{ID: g.ID, Status: g.Status, Value: g.Value, Limit: g.Limit, Compare: g.Compare, Unit: g.Unit})
	}
	return gates
}

func gatesOf(result *reports.Result) []ProgressGate {
	var gates []ProgressGate
	for i := range result.Gates {
		g := &result.Gates[i]
		gates = append(gates, ProgressGate{ID: g.ID, Status: g.Status, Value: g.Value, Limit: g.Limit, Compare: g.Compare, Unit: g.Unit})
	}
	return gates
}

// ProgressReader follows a progress file that may still be written.
type ProgressReader struct {
	file    *os.File
	partial []byte
	skip    bool // the line is longer than any that is written
	// Malformed counts the lines that were no progress.
	Malformed int
}

// OpenProgress opens the progress file of a run's folder.
func OpenProgress(folder string) (*ProgressReader, error) {
	file, err := os.Open(filepath.Join(folder, ProgressFile))
	if err != nil {
		return nil, fmt.Errorf("open the run's progress: %w", err)
	}
	return &ProgressReader{file: file}, nil
}

// Close closes the file.
func (r *ProgressReader) Close() error { return r.file.Close() }

// Next returns what was written since the last call, in whole lines.
func (r *ProgressReader) Next() ([]Progress, error) {
	var out []Progress
	in := bufio.NewReaderSize(r.file, 64<<10)
	for {
		piece, err := in.ReadSlice('\n')
		if err == nil || errors.Is(err, bufio.ErrBufferFull) || errors.Is(err, io.EOF) {
			r.take(piece, &out)
		}
		switch {
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return out, fmt.Errorf("read the run's progress: %w", err)
		}
	}
}

func (r *ProgressReader) take(piece []byte, out *[]Progress) {
	whole := bytes.HasSuffix(piece, []byte{'\n'})
	if !r.skip {
		r.partial = append(r.partial, piece...)
	}
	if len(r.partial) > progressLineMax+1 {
		r.skip, r.partial = true, r.partial[:0]
	}
	if !whole {
		return
	}
	if r.skip {
		r.Malformed++
		r.skip = false
		return
	}
	line := bytes.TrimSpace(r.partial)
	r.partial = r.partial[:0]
	if len(line) == 0 {
		return
	}
	p, err := ParseProgress(line)
	if err != nil {
		r.Malformed++
		return
	}
	*out = append(*out, p)
}

// ParseProgress reads one line. Kinds that it doesn't know pass: a newer
// program may have written them.
func ParseProgress(line []byte) (Progress, error) {
	var p Progress
	if err := json.Unmarshal(line, &p); err != nil {
		return Progress{}, fmt.Errorf("read a line of progress: %w", err)
	}
	if p.Kind == "" || p.Done < 0 || p.Total < 0 {
		return Progress{}, errors.New("read a line of progress: it names no event, or counts below 0")
	}
	if p.Trial != nil && len(p.Trial.Shape) > 64*bucketsPerOctave {
		return Progress{}, errors.New("read a line of progress: the latencies have too many buckets")
	}
	return p, nil
}
