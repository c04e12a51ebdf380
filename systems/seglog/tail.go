package seglog

import "context"

// Tail reads one tenant's durable records in order and waits for new ones. It
// has one user at a time.
type Tail struct {
	log    *Log
	tenant uint32
	next   uint64
	buf    []byte
}

// Tail starts at the sequence; 0 and sequences that retention removed mean the
// first one kept when Next is called first.
func (l *Log) Tail(tenant uint32, from uint64) *Tail {
	if from == 0 {
		from, _ = l.Range(tenant)
	}
	return &Tail{log: l, tenant: tenant, next: from}
}

// Next returns the next record, blocking until there is one. The payload is
// valid until the next call. Errors: ctx.Err(), ErrClosed, ErrRetired when
// retention overtook the reader (see Skip), ErrCorrupt.
func (t *Tail) Next(ctx context.Context) (uint64, []byte, error) {
	for {
		at, news, err := t.find()
		if err != nil {
			return 0, nil, err
		}
		if news == nil {
			t.buf, err = at.Read(t.buf[:0])
			at.Release()
			if err != nil {
				return 0, nil, err
			}
			t.next++
			return t.next - 1, t.buf, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return 0, nil, ctx.Err()
		}
	}
}

// find returns the next record's location, or what to wait for.
func (t *Tail) find() (Location, <-chan struct{}, error) {
	l := t.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing {
		return Location{}, nil, ErrClosed
	}
	at, err := l.e.Find(t.tenant, t.next)
	if err == ErrNotFound {
		return Location{}, l.news.wait(), nil
	}
	return at, nil, err
}

// Skip moves on to the first record that retention kept and returns how many
// were lost to it.
func (t *Tail) Skip() uint64 {
	first, _ := t.log.Range(t.tenant)
	if first <= t.next {
		return 0
	}
	lost := first - t.next
	t.next = first
	return lost
}

// Scan reads a closed log's folder without changing it and gives every record
// to visit in log order; each tenant's sequences follow each other. payload is
// valid during the call. The same is verified as by Open.
func Scan(dir string, visit func(tenant uint32, seq uint64, payload []byte) error) error {
	d, err := OpenDir(dir, DirOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer d.Close()
	return ScanDevice(d, visit)
}

// ScanDevice is Scan on a device.
func ScanDevice(dev Device, visit func(tenant uint32, seq uint64, payload []byte) error) error {
	r := recoverer{dev: dev, tenants: make(map[uint32]*tenant)}
	defer r.close()
	return r.run(true, visit)
}
