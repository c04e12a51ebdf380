package projection

import (
	"container/list"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/nexuscore-labs/nexus/components/host"
	fold "github.com/nexuscore-labs/nexus/components/projection"
)

// recordHeaderLen is what a record of the log begins with: the sequence of its
// first event, 8 bytes. Events follow.
const recordHeaderLen = 8

// tenant is one tenant of an engine. Locks are taken in the order of the fields.
type tenant struct {
	engine *Engine
	id     uint32

	write struct { // one append at a time gives events their order
		sync.Mutex
		known bool
		last  uint64 // sequence of the last durable event
	}

	file sync.Mutex // the checkpoint's file

	run        sync.Mutex // guards what follows
	loaded     bool       // the checkpoint is in memory
	checkpoint checkpoint
	told       uint32      // last version that Options.Versioned heard
	folder     fold.Folder // nil if none is kept
	seq        uint64      // events that it folded
	record     uint64      // of the log, the last one that it folded
	batch      []byte      // events on their way into it

	flights struct {
		sync.Mutex
		next [len(fold.Views) + 1]*flight
		due  bool // waits for a snapshot
	}

	newest struct{ seq, record atomic.Uint64 } // the checkpoint's newest snapshot

	place *list.Element // in Engine.warm, guarded by Engine.mu
}

// Append stores events in order and returns the sequence of the last one when
// they are durable. A tenant's first event has sequence 1.
func (e *Engine) Append(ctx context.Context, id uint32, events ...fold.Event) (last uint64, err error) {
	if len(events) == 0 || len(events) > EventsMax {
		return 0, fmt.Errorf("%w: %d", ErrEvents, len(events))
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	t := e.tenant(id, true)
	w := &t.write
	w.Lock()
	defer w.Unlock()
	if !w.known {
		if w.last, err = t.lastEvent(); err != nil {
			return 0, err
		}
		w.known = true
	}
	payload := make([]byte, recordHeaderLen, recordHeaderLen+len(events)*fold.EventLen)
	binary.LittleEndian.PutUint64(payload, w.last+1)
	for _, event := range events {
		payload = fold.AppendEvent(payload, event)
	}
	// To the end: what becomes of a record that nobody waits for is unknown, and
	// the next one needs its sequence.
	record, err := e.log.Append(context.WithoutCancel(ctx), id, payload)
	if err != nil {
		w.known = false
		return 0, fmt.Errorf("append %d events of tenant %d: %w", len(events), id, err)
	}
	w.last += uint64(len(events))
	t.ask(w.last, record)
	return w.last, nil
}

// lastEvent finds the sequence of the tenant's last durable event in the log.
func (t *tenant) lastEvent() (uint64, error) {
	first, last := t.engine.log.Range(t.id)
	if last < first {
		return 0, nil
	}
	payload, err := t.engine.log.Read(t.id, last)
	if err != nil {
		return 0, fmt.Errorf("read last events of tenant %d: %w", t.id, err)
	}
	if len(payload) < recordHeaderLen+fold.EventLen {
		return 0, fmt.Errorf("%w: record %d of tenant %d has %d bytes", ErrLog, last, t.id, len(payload))
	}
	count := (len(payload) - recordHeaderLen) / fold.EventLen
	return binary.LittleEndian.Uint64(payload) + uint64(count) - 1, nil
}

// load reads the checkpoint once. One that is corrupt is replaced by what of it
// verifies, under a new version. The caller holds t.run.
func (t *tenant) load() error {
	if t.loaded {
		return nil
	}
	c, err := t.engine.checkpoints.load(t.id)
	if errors.Is(err, errCheckpoint) {
		t.engine.stats.CheckpointsWrong.Add(1)
		c.version = max(t.engine.newVersion(c.version), t.engine.newVersion(0)+lostVersions)
		err = t.engine.checkpoints.store(t.id, &c)
	}
	if err != nil {
		return err
	}
	t.loaded = true
	t.adopt(c)
	return nil
}

// adopt makes a durable checkpoint the tenant's. The caller holds t.run.
func (t *tenant) adopt(c checkpoint) {
	if t.loaded {
		t.checkpoint = c
	}
	t.newest.seq.Store(0)
	t.newest.record.Store(0)
	if s := c.newest(); s != nil {
		t.newest.seq.Store(s.seq)
		t.newest.record.Store(s.record)
	}
	if hear := t.engine.options.Versioned; hear != nil && t.told != c.version {
		hear(t.id, c.version)
	}
	t.told = c.version
}

// Versions, see doc.go.
const (
	noCheckpoint = 1
	lostVersions = 1 << 16
)

// newVersion is one that the tenant never had; last is 0 if unknown.
func (e *Engine) newVersion(last uint32) uint32 {
	if last <= noCheckpoint {
		return uint32(e.options.Now().Unix())
	}
	return last + 1
}

// catchUp brings the tenant's folder to its last durable event. The caller holds
// t.run. After an error there is no folder.
func (t *tenant) catchUp() error {
	if err := t.load(); err != nil {
		return err
	}
	if err := t.begin(); err != nil {
		return err
	}
	if err := t.replay(); err != nil {
		return t.lose(err)
	}
	return nil
}

// lose ends a folder that failed for that cause. The caller holds t.run.
func (t *tenant) lose(cause error) error {
	if errors.Is(cause, host.ErrTrapped) || errors.Is(cause, host.ErrOutOfFuel) {
		t.engine.stats.GuestsLost.Add(1)
	}
	t.engine.forget(t)
	return errors.Join(cause, t.drop())
}

// begin starts a folder if none is kept: at the newest snapshot that it takes.
func (t *tenant) begin() error {
	stats := &t.engine.stats
	if t.folder != nil {
		stats.Warm.Add(1)
		return nil
	}
	folder, err := t.engine.start()
	if err != nil {
		return err
	}
	t.folder, t.seq, t.record = folder, 0, 0
	for i := len(t.checkpoint.snapshots) - 1; i >= 0; i-- {
		s := &t.checkpoint.snapshots[i]
		err := folder.Restore(s.state)
		if err == nil {
			t.seq, t.record = s.seq, s.record
			stats.FromSnapshot.Add(1)
			return nil
		}
		stats.CheckpointsWrong.Add(1)
		if !errors.Is(err, fold.ErrState) {
			return t.lose(fmt.Errorf("restore snapshot %d of tenant %d: %w", s.version, t.id, err))
		}
	}
	stats.FromStart.Add(1)
	return nil
}

// replay folds the events behind the folder's.
func (t *tenant) replay() error {
	t.batch = t.batch[:0]
	record := t.record
	next, err := t.engine.log.Replay(t.id, t.record+1, func(at uint64, payload []byte) error {
		record = at
		return t.add(at, payload)
	})
	if err == nil {
		err = t.flush()
	}
	if err != nil {
		return fmt.Errorf("replay events of tenant %d at record %d: %w", t.id, next, err)
	}
	t.record = record
	if cap(t.batch) > 64<<10 {
		t.batch = nil // what one rebuild needed is not kept for each tenant
	}
	return nil
}

// add takes the events of a record.
func (t *tenant) add(record uint64, payload []byte) error {
	if len(payload) < recordHeaderLen+fold.EventLen || (len(payload)-recordHeaderLen)%fold.EventLen != 0 {
		return fmt.Errorf("%w: record %d of %d bytes", ErrLog, record, len(payload))
	}
	if first, want := binary.LittleEndian.Uint64(payload), t.seq+uint64(len(t.batch)/fold.EventLen)+1; first != want {
		return fmt.Errorf("%w: record %d begins with event %d, not %d", ErrLog, record, first, want)
	}
	events := payload[recordHeaderLen:]
	if len(t.batch)+len(events) > fold.BatchMax*fold.EventLen {
		if err := t.flush(); err != nil {
			return err
		}
	}
	t.batch = append(t.batch, events...)
	return nil
}

// flush folds the events that are on their way.
func (t *tenant) flush() error {
	if len(t.batch) == 0 {
		return nil
	}
	count := uint64(len(t.batch) / fold.EventLen)
	seq, err := t.folder.Apply(t.batch)
	if err != nil {
		return err
	}
	if seq != t.seq+count {
		return fmt.Errorf("guest folded up to event %d, not %d", seq, t.seq+count)
	}
	t.seq, t.batch = seq, t.batch[:0]
	t.engine.stats.EventsReplayed.Add(count)
	return nil
}

// drop ends the folder and leaves the checkpoint to its file: a tenant that is not
// in use takes next to nothing. The caller holds t.run.
func (t *tenant) drop() error {
	t.loaded, t.checkpoint = false, checkpoint{}
	if t.folder == nil {
		return nil
	}
	folder := t.folder
	t.folder = nil
	return folder.Close()
}
