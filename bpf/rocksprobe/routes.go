package rocksprobe

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// RoutesDir is where the routing table is pinned: it outlives loaders, not the
// machine. The maps in it are routing_table, which the kernel asks, and
// routing_texts, which says what a revision means.
const RoutesDir = "/sys/fs/bpf/nexuscore"

const (
	tablePin = "routing_table"
	textsPin = "routing_texts"
	lockName = "nexuscore-routes.lock"
)

// Routes is the open routing table. It is safe for concurrent use, in several
// processes too: writers take a lock, readers need none, because a decision is
// one word and what it means is written before it.
type Routes struct {
	table, texts *ebpf.Map
	lock         string
	textsMax     int // revisionsMax; less in a test
}

// OpenRoutes opens the table that is pinned in dir, or makes it. An empty dir
// makes one of this process alone. It fails clearly where dir is in no BPF file
// system.
func OpenRoutes(dir string) (*Routes, error) {
	options := ebpf.MapOptions{}
	lock := ""
	if dir != "" {
		if err := prepareDir(dir); err != nil {
			return nil, fmt.Errorf("open the routing table: %w", err)
		}
		options.PinPath = dir
		lock = filepath.Join(os.TempDir(), lockName)
	}
	pin := ebpf.PinNone
	if dir != "" {
		pin = ebpf.PinByName
	}
	table, err := ebpf.NewMapWithOptions(&ebpf.MapSpec{Name: tablePin, Type: ebpf.Hash, KeySize: 16, ValueSize: 8,
		MaxEntries: RoutesMax, Pinning: pin}, options)
	if err != nil {
		return nil, fmt.Errorf("open the routing table: %w", err)
	}
	texts, err := ebpf.NewMapWithOptions(&ebpf.MapSpec{Name: textsPin, Type: ebpf.Hash, KeySize: 4,
		ValueSize: uint32(binary.Size(routeText{})), MaxEntries: revisionsMax, Pinning: pin}, options)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the routes' texts: %w", err), table.Close())
	}
	return &Routes{table: table, texts: texts, lock: lock, textsMax: revisionsMax}, nil
}

func prepareDir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	if fs.Type != unix.BPF_FS_MAGIC {
		return errors.Join(fmt.Errorf("%s is in no BPF file system; mount -t bpf bpf /sys/fs/bpf", dir), removeEmpty(dir))
	}
	return nil
}

func removeEmpty(dir string) error {
	if err := os.Remove(dir); err != nil && !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	return nil
}

// exclusively runs change while no other process changes the table.
func (r *Routes) exclusively(change func() error) error {
	if r.lock == "" {
		return change()
	}
	f, err := os.OpenFile(r.lock, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("lock the routing table: %w", err)
	}
	defer f.Close() // which unlocks
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock the routing table: %w", err)
	}
	return change()
}

// Set puts a route in force, in place of the table's old one, and returns it
// with its revision. The kernel follows it from the next commit on.
func (r *Routes) Set(route Route) (Route, error) {
	if err := route.Check(); err != nil {
		return route, err
	}
	route.Revision = 0 // is given here
	err := r.exclusively(func() error {
		texts, err := r.all()
		if err != nil {
			return err
		}
		for i := range texts {
			if texts[i].Key == route.key() && text(texts[i].Table[:]) != route.Table {
				return fmt.Errorf("set the route of %s: its hash is that of %s", route.Table, text(texts[i].Table[:]))
			}
			route.Revision = max(route.Revision, texts[i].Revision)
		}
		route.Revision++
		return r.put(route)
	})
	return route, err
}

func (r *Routes) put(route Route) error {
	if err := r.forget(); err != nil {
		return err
	}
	value := routeText{Key: route.key(), Theta: math.Float32bits(route.Theta), Revision: route.Revision}
	copy(value.Table[:], route.Table)
	copy(value.Collection[:], route.Collection)
	copy(value.Endpoint[:], route.Endpoint)
	if err := r.texts.Put(route.Revision, &value); err != nil {
		return fmt.Errorf("set the route of %s: %w", route.Table, err)
	}
	decision := uint64(route.Revision) | uint64(math.Float32bits(route.Theta))<<32
	if err := r.table.Put(route.key(), decision); err != nil {
		return errors.Join(fmt.Errorf("set the route of %s: %w", route.Table, err), r.texts.Delete(route.Revision))
	}
	return nil
}

// forget makes room for a revision by dropping the oldest that are not in force.
func (r *Routes) forget() error {
	texts, err := r.all()
	if err != nil || len(texts) < r.textsMax {
		return err
	}
	force, err := r.inForce()
	if err != nil {
		return err
	}
	slices.SortFunc(texts, func(a, b routeText) int { return cmp.Compare(a.Revision, b.Revision) })
	drop := len(texts) - r.textsMax + 1
	for _, t := range texts {
		if drop == 0 {
			break
		}
		if force[t.Key] == t.Revision {
			continue
		}
		if err := r.texts.Delete(t.Revision); err != nil {
			return fmt.Errorf("forget revision %d: %w", t.Revision, err)
		}
		drop--
	}
	return nil
}

// inForce returns the revision of each table that has a route.
func (r *Routes) inForce() (map[tableKey]uint32, error) {
	force := map[tableKey]uint32{}
	var key tableKey
	var decision uint64
	entries := r.table.Iterate()
	for entries.Next(&key, &decision) {
		force[key] = uint32(decision)
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("read the routing table: %w", err)
	}
	return force, nil
}

func (r *Routes) all() ([]routeText, error) {
	var texts []routeText
	var revision uint32
	var value routeText
	entries := r.texts.Iterate()
	for entries.Next(&revision, &value) {
		texts = append(texts, value)
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("read the routes' texts: %w", err)
	}
	return texts, nil
}

// ErrNoRoute says that a table has no route, or that a revision is unknown.
var ErrNoRoute = errors.New("no such route")

// Delete takes a table's route out of force. Its changes are no longer published.
func (r *Routes) Delete(route Route) error {
	return r.exclusively(func() error {
		err := r.table.Delete(route.key())
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("delete the route of %s: %w", route.Table, ErrNoRoute)
		}
		if err != nil {
			return fmt.Errorf("delete the route of %s: %w", route.Table, err)
		}
		return nil
	})
}

// List returns the routes in force, by table.
func (r *Routes) List() ([]Route, error) {
	force, err := r.inForce()
	if err != nil {
		return nil, err
	}
	routes := []Route{}
	for _, revision := range force {
		route, err := r.Lookup(revision)
		if errors.Is(err, ErrNoRoute) {
			continue // replaced and forgotten between the two reads
		}
		if err != nil {
			return nil, err
		}
		routes = append(routes, route)
	}
	slices.SortFunc(routes, func(a, b Route) int {
		x, y := a.key(), b.key()
		return cmp.Or(strings.Compare(a.Table, b.Table), cmp.Compare(x.NamespaceID, y.NamespaceID), cmp.Compare(x.DatabaseID, y.DatabaseID))
	})
	return routes, nil
}

// Lookup says what a revision means, of one that was replaced too.
func (r *Routes) Lookup(revision uint32) (Route, error) {
	var value routeText
	err := r.texts.Lookup(revision, &value)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return Route{}, fmt.Errorf("revision %d: %w", revision, ErrNoRoute)
	}
	if err != nil {
		return Route{}, fmt.Errorf("look up revision %d: %w", revision, err)
	}
	return value.route(), nil
}

// Close closes the maps. What is pinned stays.
func (r *Routes) Close() error { return errors.Join(r.table.Close(), r.texts.Close()) }

// Remove unpins the table: when the last probe that uses it has gone, so has it.
func (r *Routes) Remove() error {
	if r.lock == "" {
		return nil
	}
	return errors.Join(r.table.Unpin(), r.texts.Unpin())
}
