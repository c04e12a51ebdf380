package cli

import (
	"fmt"
	"io"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/reports/quantity"
	"github.com/nexuscore-labs/nexus/scenarios"
)

// progressView shows a run while it goes on. Its methods are called from one
// goroutine at a time.
type progressView interface {
	event(scenarios.Event)
	close()
}

// newProgress chooses the view: live lines on a terminal, a few plain lines
// elsewhere, nothing when quiet.
func newProgress(term *terminal, scenario *scenarios.Scenario) progressView {
	switch {
	case term.quiet:
		return silentView{}
	case width(term.stderr) > 0:
		return newLiveView(term.stderr, scenario)
	default:
		return &plainView{out: term.stderr}
	}
}

type silentView struct{}

func (silentView) event(scenarios.Event) {}
func (silentView) close()                {}

// plainView writes a line when something ends or needs to be known, so that a
// log file stays short and still shows that the run is alive.
type plainView struct {
	out      io.Writer
	lastLine time.Time
}

// plainEvery is the least time between two lines about finished trials.
const plainEvery = 10 * time.Second

func (v *plainView) event(e scenarios.Event) {
	switch e.Kind {
	case scenarios.EventPlan:
		fmt.Fprintf(v.out, "%d trials, about %s, in %s\n", e.Total, roundETA(e.ETA), e.Folder)
		v.lastLine = time.Now()
	case scenarios.EventTrialFinished:
		if e.Trial.Status != "ok" {
			fmt.Fprintf(v.out, "%s at %s: %s: %s\n", e.Trial.Contender, e.Trial.Point, e.Trial.Status, e.Trial.Reason)
		}
		if time.Since(v.lastLine) >= plainEvery {
			fmt.Fprintf(v.out, "%d of %d trials, %s left\n", e.Done, e.Total, roundETA(e.ETA))
			v.lastLine = time.Now()
		}
	case scenarios.EventCheckStarted:
		fmt.Fprintf(v.out, "check %s\n", e.Check)
	case scenarios.EventNote:
		fmt.Fprintln(v.out, e.Message)
	}
}

func (v *plainView) close() {}

// liveView keeps one line per contender, one for the checks and one for the
// whole on the terminal.
type liveView struct {
	writer     progress.Writer
	rendered   chan struct{}
	whole      *progress.Tracker
	contenders map[string]*progress.Tracker
	checks     *progress.Tracker
}

func newLiveView(out io.Writer, scenario *scenarios.Scenario) *liveView {
	w := progress.NewWriter()
	w.SetOutputWriter(out)
	w.SetAutoStop(false)
	w.SetMessageLength(58)
	w.SetTrackerLength(20)
	w.SetUpdateFrequency(150 * time.Millisecond)
	w.SetStyle(progress.StyleBlocks)
	w.Style().Visibility.Value = false
	w.Style().Visibility.Time = false
	w.Style().Visibility.Speed = false
	if !colour(out) {
		text.DisableColors()
	}
	v := &liveView{writer: w, rendered: make(chan struct{}), contenders: map[string]*progress.Tracker{}}
	v.whole = v.track("planning", 1)
	totals := map[string]int64{}
	for i := range scenario.Points {
		for _, name := range scenario.Points[i].Contenders {
			totals[name] += int64(scenario.Points[i].Trials)
		}
	}
	for _, choice := range scenario.Contenders {
		v.contenders[choice.Name] = v.track(choice.Name, totals[choice.Name])
	}
	if n := len(scenario.Checks); n > 0 {
		v.checks = v.track("checks", int64(n))
	}
	go func() {
		w.Render()
		close(v.rendered)
	}()
	return v
}

func (v *liveView) track(name string, total int64) *progress.Tracker {
	tracker := &progress.Tracker{Message: name, Total: max(total, 1)}
	v.writer.AppendTracker(tracker)
	return tracker
}

func (v *liveView) event(e scenarios.Event) {
	tracker := v.contenders[e.Contender]
	switch e.Kind {
	case scenarios.EventPlan:
		v.whole.UpdateTotal(int64(e.Total))
		v.whole.UpdateMessage("all trials, about " + roundETA(e.ETA))
	case scenarios.EventTick:
		if tracker != nil {
			tracker.UpdateMessage(fmt.Sprintf("%-14s %-12s p99 %s", e.Contender, e.Point, quantity.Ns.Format(float64(e.Tick.P99Ns))))
		}
	case scenarios.EventTrialFinished:
		v.whole.SetValue(int64(e.Done))
		v.whole.UpdateMessage(fmt.Sprintf("trial %d of %d, %s left", e.Done, e.Total, roundETA(e.ETA)))
		v.finished(v.contenders[e.Trial.Contender], e.Trial)
	case scenarios.EventCheckStarted:
		v.checks.UpdateMessage("check " + e.Check)
	case scenarios.EventCheckProgress:
		v.checks.UpdateMessage(fmt.Sprintf("check %s: %d of %d", e.Check, e.CheckDone, e.CheckTotal))
	case scenarios.EventCheckFinished:
		v.checks.Increment(1)
	case scenarios.EventNote:
		v.writer.Log("%s", e.Message)
	}
}

func (v *liveView) finished(tracker *progress.Tracker, trial *reports.Trial) {
	if tracker == nil {
		return
	}
	if trial.Status != "ok" {
		v.writer.Log("%s at %s: %s: %s", trial.Contender, trial.Point, trial.Status, trial.Reason)
		return
	}
	tracker.UpdateMessage(fmt.Sprintf("%-14s %-12s %s  p99 %s", trial.Contender, trial.Point,
		quantity.PerS.Format(trial.ThroughputPerS), quantity.Ns.Format(float64(trial.LatencyNs.P99))))
	tracker.Increment(1)
}

func (v *liveView) close() {
	v.writer.Stop()
	<-v.rendered
}

func roundETA(d time.Duration) string {
	if d < time.Second {
		return "1s"
	}
	return d.Round(time.Second).String()
}
