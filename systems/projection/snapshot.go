package projection

import "fmt"

// Snapshot says what of a kept snapshot a rollback needs to know.
type Snapshot struct {
	Version uint32
	Seq     uint64 // events folded
}

// ask wants a snapshot once enough came after the last one.
func (t *tenant) ask(seq, record uint64) {
	if !t.wants(seq, record) {
		return
	}
	t.flights.Lock()
	defer t.flights.Unlock()
	if t.flights.due {
		return
	}
	select {
	case t.engine.due <- t:
		t.flights.due = true
	default: // the next append asks again
	}
}

// wants says whether enough came after the newest snapshot. Before the checkpoint
// was read it takes the tenant for one without.
func (t *tenant) wants(seq, record uint64) bool {
	o := &t.engine.options
	return seq >= t.newest.seq.Load()+uint64(o.SnapshotEvents) || record >= t.newest.record.Load()+uint64(o.SnapshotRecords)
}

// snapshotter writes the snapshots that tenants want.
func (e *Engine) snapshotter() {
	for {
		select {
		case <-e.stop:
			return
		case t := <-e.due:
			t.flights.Lock()
			t.flights.due = false
			t.flights.Unlock()
			if _, err := t.snapshot(false); err != nil {
				e.stats.SnapshotsFailed.Add(1) // the next append asks again
			}
		}
	}
}

// Snapshot writes a snapshot of the tenant now, unless nothing came after its
// newest one, and returns the tenant's version.
func (e *Engine) Snapshot(id uint32) (version uint32, err error) {
	t := e.tenant(id, false)
	if t == nil {
		return 0, fmt.Errorf("%w: %d", ErrTenant, id)
	}
	return t.snapshot(true)
}

// snapshot holds t.run only while it takes the state and while it publishes: the
// disk is not waited for by rebuilds.
func (t *tenant) snapshot(always bool) (version uint32, err error) {
	t.file.Lock()
	defer t.file.Unlock()
	c, taken, err := t.take(always)
	if err != nil || !taken {
		return c.version, err
	}
	if err := t.engine.checkpoints.store(t.id, &c); err != nil {
		return 0, err
	}
	t.engine.stats.Snapshots.Add(1)
	t.run.Lock()
	defer t.run.Unlock()
	t.adopt(c)
	return c.version, nil
}

// take adds the tenant's state to its checkpoint's snapshots.
func (t *tenant) take(always bool) (c checkpoint, taken bool, err error) {
	t.run.Lock()
	defer t.run.Unlock()
	if err := t.catchUp(); err != nil {
		return c, false, err
	}
	newest := t.checkpoint.newest()
	if !t.wants(t.seq, t.record) && !(always && (newest == nil || t.seq > newest.seq)) {
		c = t.checkpoint
		return c, false, t.engine.keep(t)
	}
	state, err := t.folder.Save(nil)
	if err != nil {
		return c, false, t.lose(fmt.Errorf("save state of tenant %d: %w", t.id, err))
	}
	c.version = t.engine.newVersion(t.checkpoint.version)
	kept := t.checkpoint.snapshots
	if room := t.engine.options.SnapshotsKept - 1; len(kept) > room {
		kept = kept[len(kept)-room:]
	}
	c.snapshots = append(append(c.snapshots, kept...), snapshot{c.version, t.seq, t.record, state})
	return c, true, t.engine.keep(t)
}

// Snapshots returns the snapshots that a rollback may go to, oldest first.
func (e *Engine) Snapshots(id uint32) ([]Snapshot, error) {
	t := e.tenant(id, false)
	if t == nil {
		return nil, fmt.Errorf("%w: %d", ErrTenant, id)
	}
	t.run.Lock()
	defer t.run.Unlock()
	if err := t.load(); err != nil {
		return nil, err
	}
	var kept []Snapshot
	for _, s := range t.checkpoint.snapshots {
		kept = append(kept, Snapshot{s.version, s.seq})
	}
	return kept, nil
}

// Rollback throws away the snapshots after the version, all with version 0, and
// gives the tenant a new version. Events stay: rebuilds replay them from the
// snapshot that is now the newest. It is durable when Rollback returns, and
// nothing built from the thrown away snapshots is answered any more.
func (e *Engine) Rollback(id, version uint32) (newVersion uint32, err error) {
	t := e.tenant(id, false)
	if t == nil {
		return 0, fmt.Errorf("%w: %d", ErrTenant, id)
	}
	t.file.Lock()
	defer t.file.Unlock()
	t.run.Lock()
	defer t.run.Unlock()
	if err := t.load(); err != nil {
		return 0, err
	}
	keep := 0
	for i, s := range t.checkpoint.snapshots {
		if s.version == version {
			keep = i + 1
		}
	}
	if keep == 0 && version != 0 {
		return 0, fmt.Errorf("%w: %d of tenant %d", ErrVersion, version, id)
	}
	c := checkpoint{version: e.newVersion(t.checkpoint.version), snapshots: t.checkpoint.snapshots[:keep:keep]}
	if err := e.checkpoints.store(id, &c); err != nil {
		return 0, err
	}
	t.adopt(c)
	e.stats.Rollbacks.Add(1)
	e.forget(t)
	return c.version, t.drop()
}
