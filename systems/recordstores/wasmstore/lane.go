package wasmstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/nexuscore-labs/nexus/components/logframe"
	"github.com/nexuscore-labs/nexus/systems/recordserver"
)

// request is one caller's records and where their outcome goes.
type request struct {
	payloads [][]byte
	results  []recordserver.Result
	left     int // records without an outcome
	done     chan struct{}
}

// lane is one tenant: its guest and what waits for it, with a goroutine that
// lives as long as the guest. (One for each burst would grow its stack anew for
// the first call into the guest: that cost more than the call.)
type lane struct {
	store   *Store
	tenant  uint32
	wake    chan struct{} // of one token; closed by Store.Close
	pending []*request    // guarded by Store.mu

	// Below: the serving goroutine's own.
	framer   logframe.Framer
	state    logframe.State // of what is stored
	failed   error
	owners   []owner
	payloads [][]byte
	verdicts []logframe.Verdict
	framed   []byte
}

// owner is where the outcome of one record of a group goes.
type owner struct {
	request *request
	index   int
}

func (l *lane) run() {
	defer l.store.work.Done()
	var taken []*request
	for {
		_, open := <-l.wake
		l.store.mu.Lock()
		taken, l.pending = l.pending, taken[:0]
		l.store.mu.Unlock()
		l.serve(taken)
		clear(taken)
		if !open {
			return // nothing is queued after the store closed
		}
	}
}

// serve makes groups of what was taken, each at most one batch of the guest.
func (l *lane) serve(taken []*request) {
	size := 0
	for _, r := range taken {
		r.left = len(r.payloads)
		for i, payload := range r.payloads {
			if len(payload) > payloadLenMax {
				owner{r, i}.answer(recordserver.Result{Err: recordserver.ErrTooLarge})
				continue
			}
			if len(l.payloads) == logframe.BatchMax || len(l.payloads) > 0 && size+len(payload) > groupLenMax {
				l.flush()
				size = 0
			}
			l.owners = append(l.owners, owner{r, i})
			l.payloads = append(l.payloads, payload)
			size += len(payload)
		}
		if len(r.payloads) == 0 {
			close(r.done)
		}
	}
	l.flush()
}

// flush frames the group, stores it and answers its owners.
func (l *lane) flush() {
	if len(l.payloads) == 0 {
		return
	}
	err := l.storeGroup()
	for i, o := range l.owners {
		v := l.verdicts[i]
		switch {
		case v.Refusal != logframe.Framed:
			o.answer(recordserver.Result{Err: fmt.Errorf("%w: %v", recordserver.ErrRejected, v.Refusal)})
		case err != nil:
			o.answer(recordserver.Result{Err: err})
		default:
			o.answer(recordserver.Result{Seq: v.Seq})
		}
	}
	clear(l.owners)
	clear(l.payloads)
	l.owners, l.payloads = l.owners[:0], l.payloads[:0]
}

func (o owner) answer(result recordserver.Result) {
	o.request.results[o.index] = result
	if o.request.left--; o.request.left == 0 {
		close(o.request.done)
	}
}

// storeGroup makes the group one record of the log.
func (l *lane) storeGroup() (err error) {
	l.verdicts = append(l.verdicts[:0], make([]logframe.Verdict, len(l.payloads))...)
	if l.failed != nil {
		return l.failed
	}
	if l.framer == nil {
		if l.framer, err = l.store.framer(l.tenant, l.state); err != nil {
			return fmt.Errorf("%w: %w", recordserver.ErrUnavailable, err)
		}
	}
	if err := l.framer.Frame(l.payloads, l.verdicts); err != nil {
		return fmt.Errorf("%w: %w", recordserver.ErrUnavailable, err)
	}
	next := l.state
	l.framed = l.framed[:0]
	for _, v := range l.verdicts {
		if v.Refusal == logframe.Framed {
			l.framed = append(l.framed, v.Framed...)
			next = logframe.State{NextSeq: v.Seq + 1, Timestamp: v.Timestamp}
		}
	}
	if len(l.framed) == 0 {
		return nil
	}
	if _, err := l.store.log.Append(context.Background(), l.tenant, l.framed); err != nil {
		return l.undo(err)
	}
	l.state = next
	return nil
}

// undo takes the framed sequences back where the log says that it stored
// nothing. Otherwise the group may be found after a restart, and giving its
// sequences away again could store two records under one: the tenant stops.
func (l *lane) undo(cause error) error {
	for _, nothingStored := range []error{recordserver.ErrDiskFull, recordserver.ErrTooLarge, recordserver.ErrOverloaded} {
		if errors.Is(cause, nothingStored) {
			return errors.Join(cause, l.framer.Rewind(l.state))
		}
	}
	l.failed = fmt.Errorf("%w: %w", recordserver.ErrUnavailable, cause)
	return l.failed
}
