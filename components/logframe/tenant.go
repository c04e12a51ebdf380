package logframe

import (
	"context"
	"errors"
	"fmt"
)

// Tenant frames one tenant's records in a guest of its own. A guest that dies is
// replaced by a fresh one in the last good state, and the record that killed it
// is refused. One goroutine uses a Tenant at a time.
type Tenant struct {
	engine *Engine
	id     uint32
	policy Policy
	state  State
	guest  *guest
	closed bool
	died   uint64
}

var _ Framer = (*Tenant)(nil)

// ErrClosed says that the tenant was closed.
var ErrClosed = errors.New("logframe: tenant is closed")

// Tenant starts a guest for one tenant.
func (e *Engine) Tenant(id uint32, policy Policy, state State) (*Tenant, error) {
	policy, err := policy.withDefaults()
	if err != nil {
		return nil, err
	}
	t := &Tenant{engine: e, id: id, policy: policy, state: state}
	return t, t.revive()
}

// Frame implements Framer.
func (t *Tenant) Frame(records [][]byte, verdicts []Verdict) error {
	if t.closed {
		return ErrClosed
	}
	if err := checkBatch(records, verdicts); err != nil {
		return err
	}
	if len(records) == 0 {
		return nil
	}
	if err := t.revive(); err != nil {
		return err
	}
	if err := t.guest.run(t.state.NextSeq, records, verdicts); err == nil {
		t.advance(verdicts)
		return nil
	} else if err := t.bury(err); err != nil {
		return err
	}
	return t.frameOneByOne(records, verdicts)
}

// advance takes over the state that the guest has after a batch.
func (t *Tenant) advance(verdicts []Verdict) {
	for _, v := range verdicts {
		if v.Refusal == Framed {
			t.state = State{NextSeq: v.Seq + 1, Timestamp: v.Timestamp}
		}
	}
}

// frameOneByOne finds the record of a batch that killed the guest: only that one
// is refused. Each guest's output is copied, since the guest may not last.
func (t *Tenant) frameOneByOne(records [][]byte, verdicts []Verdict) error {
	for i := range records {
		if err := t.revive(); err != nil {
			return err
		}
		if err := t.guest.run(t.state.NextSeq, records[i:i+1], verdicts[i:i+1]); err != nil {
			if err := t.bury(err); err != nil {
				return err
			}
			verdicts[i] = Verdict{Timestamp: t.state.Timestamp, Refusal: GuestDied}
			continue
		}
		verdicts[i].Framed = append([]byte(nil), verdicts[i].Framed...)
		t.advance(verdicts[i : i+1])
	}
	return nil
}

// bury ends a guest that failed for the given cause.
func (t *Tenant) bury(cause error) error {
	t.died++
	err := t.guest.instance.Close(context.Background())
	t.guest = nil
	if err != nil {
		return fmt.Errorf("end guest of tenant %d after %w: %w", t.id, cause, err)
	}
	return nil
}

// revive starts a guest if there is none.
func (t *Tenant) revive() (err error) {
	if t.guest == nil {
		t.guest, err = t.engine.start(t.id, t.policy, t.state)
	}
	return err
}

// State is what the next record depends on.
func (t *Tenant) State() State { return t.state }

// Died counts the guests that this tenant lost.
func (t *Tenant) Died() uint64 { return t.died }

// Rewind implements Framer.
func (t *Tenant) Rewind(state State) error {
	if t.closed {
		return ErrClosed
	}
	t.state = state
	if t.guest == nil {
		return nil
	}
	if err := t.guest.callOnce("rewind", state.NextSeq, state.Timestamp); err != nil {
		return t.bury(err)
	}
	return nil
}

// Close ends the tenant's guest.
func (t *Tenant) Close() error {
	t.closed = true
	if t.guest == nil {
		return nil
	}
	guest := t.guest
	t.guest = nil
	return guest.instance.Close(context.Background())
}
