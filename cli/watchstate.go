package cli

import (
	"fmt"
	"time"

	"github.com/nexuscore-labs/nexus/scenarios"
)

// Bounds of what a watcher keeps.
const (
	watchTicksMax  = 120
	watchEventsMax = 50
)

// watchState is a run as far as its progress tells.
type watchState struct {
	run         scenarios.ProgressRun
	planned     bool
	done, total int
	repeated    int
	eta         time.Duration // at lastAt
	lastAt      time.Time
	now         scenarios.Progress // the trial under way
	ticks       []scenarios.ProgressTick
	contenders  []watchedContender
	point       string // at which contenders stand beside each other
	shown       string // whose stages are shown
	stages      []scenarios.ProgressStage
	stagesOf    string // requests or threads
	gates       []scenarios.ProgressGate
	check       scenarios.Progress
	events      []watchEvent
	ended       *scenarios.Progress
	malformed   int
}

type watchedContender struct {
	scenarios.ProgressContend
	finished, void int
	newest         map[string]*scenarios.ProgressTrial // that counts, by point
}

type watchEvent struct {
	at   time.Time
	text string
}

func (s *watchState) contender(name string) *watchedContender {
	for i := range s.contenders {
		if s.contenders[i].Name == name {
			return &s.contenders[i]
		}
	}
	s.contenders = append(s.contenders, watchedContender{ProgressContend: scenarios.ProgressContend{Name: name}})
	return &s.contenders[len(s.contenders)-1]
}

func (s *watchState) note(at time.Time, format string, args ...any) {
	s.events = append(s.events, watchEvent{at, fmt.Sprintf(format, args...)})
	if len(s.events) > watchEventsMax {
		s.events = s.events[len(s.events)-watchEventsMax:]
	}
}

// apply takes one line of progress. A folder that was resumed holds the
// progress of both processes; the later plan goes on with the run.
func (s *watchState) apply(p scenarios.Progress) {
	s.lastAt = p.At
	if p.Total > 0 {
		s.done, s.total = p.Done, p.Total
	}
	if len(p.Gates) > 0 {
		s.gates = p.Gates
	}
	switch p.Kind {
	case scenarios.EventPlan:
		s.plan(p)
	case scenarios.EventTrialStarted:
		s.now, s.eta, s.ticks = p, time.Duration(p.ETANs), nil
		if p.Attempt > 0 {
			s.repeated++
		}
	case scenarios.EventTick:
		if p.Tick != nil {
			s.ticks = append(s.ticks, *p.Tick)
			if len(s.ticks) > watchTicksMax {
				s.ticks = s.ticks[1:]
			}
		}
	case scenarios.EventTrialFinished:
		s.finished(p)
	case scenarios.EventCheckStarted, scenarios.EventCheckProgress:
		s.check, s.now, s.eta = p, scenarios.Progress{}, 0
	case scenarios.EventCheckFinished:
		s.check = scenarios.Progress{}
		s.note(p.At, "check %s finished", p.Check)
	case scenarios.EventNote:
		s.note(p.At, "%s", p.Message)
	case scenarios.EventDone:
		s.ended, s.now, s.check, s.eta = &p, scenarios.Progress{}, scenarios.Progress{}, 0
	}
}

func (s *watchState) plan(p scenarios.Progress) {
	if s.planned {
		s.note(p.At, "the run goes on: %d of %d trials are done", p.Done, p.Total)
	}
	s.planned, s.ended, s.eta = true, nil, time.Duration(p.ETANs)
	if p.Run == nil {
		return
	}
	s.run = *p.Run
	for _, c := range p.Run.Contenders {
		s.contender(c.Name).ProgressContend = c
	}
}

func (s *watchState) finished(p scenarios.Progress) {
	s.eta, s.now = time.Duration(p.ETANs), scenarios.Progress{}
	if p.Trial == nil {
		return
	}
	c := s.contender(p.Contender)
	c.finished++
	if p.Trial.Status != "ok" {
		c.void++
		s.note(p.At, "%s at %s is %s: %s", p.Contender, p.Point, p.Trial.Status, p.Trial.Reason)
		return
	}
	if c.newest == nil {
		c.newest = map[string]*scenarios.ProgressTrial{}
	}
	c.newest[p.Point] = p.Trial
	s.comparable(p.Point)
	// What threads did says less than where requests spent their time.
	if len(p.Trial.Stages) > 0 && (p.Trial.StagesOf == scenarios.StagesOfRequests || s.stagesOf != scenarios.StagesOfRequests) {
		s.shown, s.stages, s.stagesOf = p.Contender+" at "+p.Point, p.Trial.Stages, p.Trial.StagesOf
	}
	for _, name := range p.Trial.Events {
		s.note(p.At, "%s: %s", p.Contender, name)
	}
}

// comparable keeps the point at which most contenders have a trial, since rates
// at different points say nothing beside each other; the first of equals stays.
func (s *watchState) comparable(point string) {
	at := func(point string) (n int) {
		for i := range s.contenders {
			if s.contenders[i].newest[point] != nil {
				n++
			}
		}
		return n
	}
	if at(point) > at(s.point) {
		s.point = point
	}
}

// dead reports whether the process that ran it is gone without an end; unknown
// counts as alive.
func (s *watchState) dead() bool {
	return s.ended == nil && s.run.Owner != nil && s.run.Owner.Liveness().String() == "dead"
}

// left is the time that is left, as far as is known.
func (s *watchState) left(now time.Time) time.Duration {
	return max(0, s.eta-now.Sub(s.lastAt))
}
