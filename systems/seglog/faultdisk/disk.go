// Package faultdisk is a simulated disk for the segment log. It keeps what was
// written and not yet synced apart from what is durable. A simulated power cut
// at any operation lets an arbitrary, seeded choice of the unsynced sectors
// survive: dropped, reordered, torn. Faults (EIO, ENOSPC, short writes) can be
// injected at any operation. Equal seeds and operations give equal disks.
package faultdisk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"

	"github.com/nexuscore-labs/nexus/systems/seglog"
)

// SectorBytes is what the disk writes as a whole or not at all.
const SectorBytes = 512

// ErrPowerCut is what every operation returns from the cut on.
var ErrPowerCut = errors.New("faultdisk: power is cut")

// Kind is a fault that an operation can be given.
type Kind uint8

const (
	None       Kind = iota
	EIO             // the operation fails; a write may have reached some sectors, a failed sync drops what was unsynced
	ENOSPC          // a write, create or truncate finds no space
	ShortWrite      // a write takes only a part and says so
)

func (k Kind) String() string { return [...]string{"none", "EIO", "ENOSPC", "short write"}[k] }

// Options of a disk.
type Options struct {
	Seed uint64
	// CutAt is the operation (1 is the first) during which power is cut; 0: none.
	CutAt int
	// CutKills makes the cut one of the process only: what was written and not
	// synced is still there for the next one, until power is cut.
	CutKills bool
	// Fault hits operation FaultAt and, with FaultSticky, all that follow.
	Fault       Kind
	FaultAt     int
	FaultSticky bool
	// AckBeforeSync makes commits return without a sync: a log that
	// acknowledges too early, to prove that the tests notice.
	AckBeforeSync bool
	// Stale makes new files read as leftovers of removed ones instead of zeros.
	Stale bool
}

// Disk implements seglog.Device. It may be used concurrently.
type Disk struct {
	mu      sync.Mutex
	o       Options
	rng     *rand.Rand
	ops     int
	cut     bool
	names   map[string]*inode // as programs see it
	durable map[string]*inode // as it will be after a cut
	stale   []byte            // content of a removed file
	faults  int
}

// inode is one file's content.
type inode struct {
	live    []byte
	durable []byte
	pending []change // since the last sync, in order
}

// change is one unsynced write, or a change of size when data is nil.
type change struct {
	offset int64
	data   []byte
	size   int64
}

// New returns an empty disk.
func New(o Options) *Disk {
	return &Disk{
		o: o, rng: rand.New(rand.NewPCG(o.Seed, 0x6661756c74)),
		names: map[string]*inode{}, durable: map[string]*inode{},
	}
}

// Ops is how many operations were started.
func (d *Disk) Ops() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ops
}

// Faults is how many operations were given the fault.
func (d *Disk) Faults() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.faults
}

// Cut says that power was cut.
func (d *Disk) Cut() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cut
}

// PowerOff cuts power now, whether or not the process died before.
func (d *Disk) PowerOff() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cut, d.o.CutKills = true, false
}

// Reboot returns the disk as the next program finds it: durable content, and of
// what was not synced whatever the seed lets survive. Without a cut nothing is
// lost (the program ended, the machine did not).
func (d *Disk) Reboot(o Options) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := New(o)
	next.stale = d.stale
	from, lost := d.names, d.cut && !d.o.CutKills
	if lost {
		from = d.durable
	}
	for _, name := range slices.Sorted(maps.Keys(from)) {
		content := slices.Clone(from[name].live)
		if lost {
			content = d.survive(from[name])
		}
		n := &inode{live: content, durable: slices.Clone(content)}
		if !lost {
			n.durable, n.pending = slices.Clone(from[name].durable), slices.Clone(from[name].pending)
		}
		next.names[name] = n
		if _, ok := d.durable[name]; lost || ok {
			next.durable[name] = n
		}
	}
	return next
}

// survive applies a random part of the unsynced changes, sector by sector and
// without regard to their order.
func (d *Disk) survive(n *inode) []byte {
	content := slices.Clone(n.durable)
	for _, c := range n.pending {
		if c.data == nil {
			if d.rng.IntN(2) == 0 {
				content = resize(content, c.size)
			}
			continue
		}
		keep := d.policy(len(c.data))
		for at := 0; at < len(c.data); {
			sector := (c.offset + int64(at)) / SectorBytes
			end := min(int((sector+1)*SectorBytes-c.offset), len(c.data))
			if keep(at) {
				if need := c.offset + int64(end); need > int64(len(content)) {
					content = resize(content, need)
				}
				copy(content[c.offset+int64(at):], c.data[at:end])
			}
			at = end
		}
	}
	return content
}

// policy is how one write survives: not, whole, its start, its end, or any
// sectors.
func (d *Disk) policy(length int) func(at int) bool {
	edge := d.rng.IntN(length + 1)
	switch d.rng.IntN(6) {
	case 0:
		return func(int) bool { return false }
	case 1:
		return func(int) bool { return true }
	case 2:
		return func(at int) bool { return at < edge }
	case 3:
		return func(at int) bool { return at >= edge }
	default:
		share := d.rng.Float64()
		return func(int) bool { return d.rng.Float64() < share }
	}
}

func resize(p []byte, size int64) []byte {
	if size <= int64(len(p)) {
		return p[:size]
	}
	return append(p, make([]byte, size-int64(len(p)))...)
}

// step counts an operation and says what happens to it. cutNow is true for the
// one operation during which power is cut. It is called with mu held.
func (d *Disk) step() (fault Kind, cutNow bool, err error) {
	if d.cut {
		return None, false, ErrPowerCut
	}
	d.ops++
	if d.o.CutAt > 0 && d.ops >= d.o.CutAt {
		d.cut = true
		return None, true, ErrPowerCut
	}
	if d.o.Fault != None && (d.ops == d.o.FaultAt || d.o.FaultSticky && d.ops > d.o.FaultAt && d.o.FaultAt > 0) {
		return d.o.Fault, false, nil
	}
	return None, false, nil
}

// fail counts a fault that had an effect.
func (d *Disk) fail(op string, errno syscall.Errno) error {
	d.faults++
	return fmt.Errorf("faultdisk: %s: %w", op, errno)
}

// Inject gives the after-th operation from now (1 is the next one) a fault,
// and with sticky all that follow.
func (d *Disk) Inject(fault Kind, after int, sticky bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.o.Fault, d.o.FaultAt, d.o.FaultSticky = fault, d.ops+after, sticky
}

// Heal ends the injected fault.
func (d *Disk) Heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.o.Fault = None
}

// List implements seglog.Device.
func (d *Disk) List() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fault, _, err := d.step()
	if err != nil {
		return nil, err
	}
	if fault == EIO {
		return nil, d.fail("list", syscall.EIO)
	}
	return slices.Sorted(maps.Keys(d.names)), nil
}

// Create implements seglog.Device.
func (d *Disk) Create(name string, size int64, _ func() bool) (seglog.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fault, cutNow, err := d.step()
	if cutNow && d.rng.IntN(2) == 0 {
		d.durable[name] = &inode{durable: d.leftovers(size)}
	}
	switch {
	case err != nil:
		return nil, err
	case fault == EIO:
		return nil, d.fail("create", syscall.EIO)
	case fault == ENOSPC:
		return nil, d.fail("create", syscall.ENOSPC)
	}
	// Blocks that were never synced hold what they held before.
	n := &inode{live: make([]byte, size), durable: d.leftovers(size)}
	if d.o.Stale {
		n.live = slices.Clone(n.durable)
	} else {
		n.pending = []change{{data: make([]byte, size)}}
	}
	d.names[name] = n
	if d.rng.IntN(2) == 0 {
		d.durable[name] = n // the folder happened to be written
	}
	return &file{disk: d, node: n, name: name}, nil
}

func (d *Disk) leftovers(size int64) []byte {
	p := make([]byte, size)
	copy(p, d.stale)
	return p
}

// Open implements seglog.Device.
func (d *Disk) Open(name string) (seglog.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	fault, _, err := d.step()
	if err != nil {
		return nil, err
	}
	if fault == EIO {
		return nil, d.fail("open", syscall.EIO)
	}
	n := d.names[name]
	if n == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &file{disk: d, node: n, name: name}, nil
}

// Rename implements seglog.Device.
func (d *Disk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	fault, cutNow, err := d.step()
	n := d.names[from]
	if err == nil && n == nil {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	move := func(names map[string]*inode) {
		names[to] = n
		delete(names, from)
	}
	switch {
	case cutNow && d.rng.IntN(2) == 0 && n != nil:
		move(d.durable)
		return err
	case err != nil:
		return err
	case fault == EIO: // the name may or may not have changed
		if d.rng.IntN(2) == 0 {
			move(d.names)
			move(d.durable)
		}
		return d.fail("rename", syscall.EIO)
	case fault == ENOSPC:
		return d.fail("rename", syscall.ENOSPC)
	}
	move(d.names)
	move(d.durable)
	return nil
}

// Remove implements seglog.Device.
func (d *Disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	fault, cutNow, err := d.step()
	switch {
	case cutNow && d.rng.IntN(2) == 0:
		delete(d.durable, name)
		return err
	case err != nil:
		return err
	case fault == EIO:
		return d.fail("remove", syscall.EIO)
	}
	if n := d.names[name]; n != nil && len(n.live) > 0 {
		d.stale = n.live
	}
	delete(d.names, name)
	delete(d.durable, name)
	return nil
}

// NewCommitter implements seglog.Device.
func (d *Disk) NewCommitter(count, size int) (seglog.Committer, error) {
	c := &committer{disk: d}
	for range count {
		c.buffers = append(c.buffers, make([]byte, size))
	}
	return c, nil
}

type committer struct {
	disk    *Disk
	buffers [][]byte
}

func (c *committer) Buffer(i int) []byte { return c.buffers[i] }
func (c *committer) Close() error        { return nil }

func (c *committer) Commit(f seglog.File, i, n int, offset int64) error {
	return c.disk.Commit(f, c.buffers[i][:n], offset)
}

// Commit writes p and makes it durable, as a Committer does.
func (d *Disk) Commit(f seglog.File, p []byte, offset int64) error {
	for len(p) > 0 {
		n, err := f.WriteAt(p, offset)
		if err != nil && !errors.Is(err, io.ErrShortWrite) {
			return err
		}
		if n == 0 {
			return io.ErrShortWrite
		}
		p, offset = p[n:], offset+int64(n)
	}
	return d.SyncCommit(f)
}

// SyncCommit is the sync at the end of a commit.
func (d *Disk) SyncCommit(f seglog.File) error {
	if d.o.AckBeforeSync {
		return nil
	}
	return f.Sync()
}
