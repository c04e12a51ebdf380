// Package tenancy keeps the projections of many tenants in three ways that can be
// measured beside each other: a guest each, all in one process; a goroutine each;
// and a process each. Every tenant has state of its own and folds and encodes
// when it is asked to.
package tenancy

import (
	"context"
	"errors"
	"fmt"

	"github.com/nexuscore-labs/nexus/components/host"
	fold "github.com/nexuscore-labs/nexus/components/projection"
)

// view is what a tenant encodes.
var view = fold.View{Counts: true, Top: 8}

// Fleet is tenants numbered from 0. One goroutine uses it at a time.
type Fleet interface {
	// Ask has a tenant fold the event and returns its encoded projection, valid
	// until the next Ask.
	Ask(tenant int, event fold.Event) ([]byte, error)
	// PIDs are the processes that the tenants run in; 0 is this one.
	PIDs() []int
	Close() error
}

// guests is a Fleet of an instance for each tenant.
type guests struct {
	runtime *host.Runtime
	engine  *fold.Engine
	tenants []*fold.Guest
	event   []byte
	buf     []byte
}

// NewGuests starts a guest for each of so many tenants.
func NewGuests(ctx context.Context, tenants int) (Fleet, error) {
	runtime, err := host.New(ctx, "")
	if err != nil {
		return nil, err
	}
	g := &guests{runtime: runtime}
	if g.engine, err = fold.NewEngine(ctx, runtime, 1); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	for range tenants {
		guest, err := g.engine.Start(ctx)
		if err != nil {
			return nil, errors.Join(err, g.Close())
		}
		g.tenants = append(g.tenants, guest)
	}
	return g, nil
}

// Ask implements Fleet.
func (g *guests) Ask(tenant int, event fold.Event) (answer []byte, err error) {
	g.event = fold.AppendEvent(g.event[:0], event)
	g.buf, err = foldAndEncode(g.tenants[tenant], g.event, g.buf[:0])
	return g.buf, err
}

func foldAndEncode(f fold.Folder, event, dst []byte) ([]byte, error) {
	if _, err := f.Apply(event); err != nil {
		return nil, err
	}
	return f.Encode(dst, view)
}

// PIDs implements Fleet.
func (g *guests) PIDs() []int { return []int{0} }

// Close implements Fleet.
func (g *guests) Close() (err error) {
	for _, t := range g.tenants {
		err = errors.Join(err, t.Close())
	}
	if g.engine != nil {
		err = errors.Join(err, g.engine.Close())
	}
	return errors.Join(err, g.runtime.Close(context.Background()))
}

// goroutines is a Fleet of a goroutine for each tenant.
type goroutines struct {
	tenants []chan question
	answers chan answer
}

type question struct{ event fold.Event }

type answer struct {
	data []byte
	err  error
}

// NewGoroutines starts a goroutine for each of so many tenants, which alone holds
// the tenant's state, in Go.
func NewGoroutines(tenants int) Fleet {
	g := &goroutines{answers: make(chan answer)}
	for range tenants {
		questions := make(chan question)
		g.tenants = append(g.tenants, questions)
		go serveNative(questions, g.answers)
	}
	return g
}

func serveNative(questions <-chan question, answers chan<- answer) {
	var state fold.Native
	var event, buf []byte
	for q := range questions {
		event = fold.AppendEvent(event[:0], q.event)
		var err error
		buf, err = foldAndEncode(&state, event, buf[:0])
		answers <- answer{buf, err}
	}
}

// Ask implements Fleet.
func (g *goroutines) Ask(tenant int, event fold.Event) ([]byte, error) {
	g.tenants[tenant] <- question{event}
	a := <-g.answers
	return a.data, a.err
}

// PIDs implements Fleet.
func (g *goroutines) PIDs() []int { return []int{0} }

// Close implements Fleet.
func (g *goroutines) Close() error {
	for _, questions := range g.tenants {
		close(questions)
	}
	return nil
}

// Kinds of fleets.
const (
	KindGuests     = "guests"
	KindGoroutines = "goroutines"
	KindProcesses  = "processes"
)

// New starts a fleet of a kind. self is the command that runs ChildMain, for
// processes.
func New(ctx context.Context, kind string, tenants int, self []string) (Fleet, error) {
	switch kind {
	case KindGuests:
		return NewGuests(ctx, tenants)
	case KindGoroutines:
		return NewGoroutines(tenants), nil
	case KindProcesses:
		return NewProcesses(tenants, self)
	}
	return nil, fmt.Errorf("tenancy: no fleet of kind %q", kind)
}
