// Package netbed makes a small network that is nobody else's: two network
// namespaces joined by a pair of virtual Ethernet interfaces, one for a server,
// one for its clients. Nothing of it shows in the host's own network.
//
// Packets that arrive at an end are worked on by a kernel thread of its own
// (threaded NAPI), pinned to the CPUs of that end, so that the time that a server's
// packets cost is on the server's CPUs and can be read from the thread's clock.
//
// The caller names the namespaces, so that those of a killed one can be told.
package netbed

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Addresses of the two ends, equal in every bed: beds do not see each other.
var (
	Subnet     = netip.MustParsePrefix("10.77.0.0/24")
	ServerIPv4 = netip.MustParseAddr("10.77.0.1")
	ClientIPv4 = netip.MustParseAddr("10.77.0.2")
	Subnet6    = netip.MustParsePrefix("fd77::/64")
	ServerIPv6 = netip.MustParseAddr("fd77::1")
	ClientIPv6 = netip.MustParseAddr("fd77::2")
	serverMAC  = []byte{2, 0, 0, 0, 0, 1}
	clientMAC  = []byte{2, 0, 0, 0, 0, 2}
	namespaces = "/run/netns"
	bedsSoFar  atomic.Uint64
	sides      = [2]string{"server", "client"}
)

// Options say how the bed's ends are worked.
type Options struct {
	// Name begins the names of both namespaces in /run/netns: one that
	// machine.LeftoverName gives is found by machine.Clean.
	Name       string
	ServerCPUs []int // of the server's packets; empty: wherever they come from
	ClientCPUs []int
	// MTU in bytes, 0 for DefaultMTU. Programs in the driver see a packet in one
	// piece up to some 3,500 bytes.
	MTU int
}

// DefaultMTU lets an answer of 4 KiB cross in one packet.
const DefaultMTU = 4400

// End is one of the two namespaces.
type End struct {
	Netns     string // path of the namespace
	Interface string
	Index     int // of the interface
	// Thread is the kernel thread that works on what arrives here; 0: none, see
	// Bed.Notes.
	Thread int
	side   string
	pass   link.Link
	fd     int
}

// Bed is the network. It is not safe for concurrent use.
type Bed struct {
	Server, Client End
	Notes          []string // what this kernel could not do, for reports
}

// New makes a bed. It needs CAP_SYS_ADMIN and CAP_NET_ADMIN.
func New(options Options) (*Bed, error) {
	if options.Name == "" {
		return nil, errors.New("make a network of two namespaces: it needs a name")
	}
	if options.MTU == 0 {
		options.MTU = DefaultMTU
	}
	b := &Bed{}
	b.Server.fd, b.Client.fd = -1, -1
	err := b.build(options)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a network of two namespaces: %w", err), b.Close())
	}
	return b, nil
}

func (b *Bed) ends() [2]*End { return [2]*End{&b.Server, &b.Client} }

func (b *Bed) build(options Options) error {
	number := bedsSoFar.Add(1)
	for i, end := range b.ends() {
		// The kernel's thread bears the interface's name: it must be found by it.
		end.Interface = fmt.Sprintf("%c%d.%d", sides[i][0], os.Getpid(), number)
		end.side = sides[i]
		if err := end.makeNamespace(options.Name + "-" + end.side); err != nil {
			return err
		}
	}
	if err := b.join(options.MTU); err != nil {
		return err
	}
	for _, end := range b.ends() {
		if err := end.bringUp(); err != nil {
			return fmt.Errorf("bring the %s's end up: %w", end.side, err)
		}
	}
	addresses := [2][2]netip.Addr{{ServerIPv4, ServerIPv6}, {ClientIPv4, ClientIPv6}}
	for i, end := range b.ends() {
		err := end.awaitCarrier()
		if err == nil {
			err = end.address(addresses[i])
		}
		if err == nil {
			err = end.knowNeighbour(addresses[1-i], [2][]byte{clientMAC, serverMAC}[i])
		}
		if err != nil {
			return fmt.Errorf("configure the %s's end: %w", end.side, err)
		}
	}
	for i, end := range b.ends() {
		cpus := [2][]int{options.ServerCPUs, options.ClientCPUs}[i]
		if len(cpus) == 0 {
			continue
		}
		if err := end.thread(cpus); err != nil {
			b.Notes = append(b.Notes, fmt.Sprintf("packets of the %s's end are worked on wherever they come from: %v", end.side, err))
		}
	}
	return nil
}

// join makes the pair of interfaces, each in its namespace from the start.
func (b *Bed) join(mtu int) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = b.Server.Interface, mtu, serverMAC
	attrs.Namespace = netlink.NsFd(b.Server.fd)
	pair := &netlink.Veth{
		LinkAttrs: attrs, PeerName: b.Client.Interface, PeerHardwareAddr: clientMAC, PeerMTU: uint32(mtu),
		PeerNamespace: netlink.NsFd(b.Client.fd),
	}
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("make a pair of virtual Ethernet interfaces: %w", err)
	}
	return nil
}

// makeNamespace makes a namespace and gives it a name, as ip-netns(8) does.
func (e *End) makeNamespace(name string) error {
	if err := os.MkdirAll(namespaces, 0o755); err != nil {
		return fmt.Errorf("make the folder of namespaces: %w", err)
	}
	path := filepath.Join(namespaces, name)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("name a namespace: %w", err)
	}
	e.Netns = path
	if err := file.Close(); err != nil {
		return fmt.Errorf("name a namespace: %w", err)
	}
	err = onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		self := fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
		if err := unix.Mount(self, path, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("give a network namespace its name: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	e.fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the namespace: %w", err)
	}
	return nil
}

// Run calls work on a thread of its own in the end's namespace. Sockets that work
// opens stay there.
func (e *End) Run(work func() error) error {
	return onOwnThread(func() error {
		if err := unix.Setns(e.fd, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the %s's namespace: %w", e.side, err)
		}
		return work()
	})
}

// Close takes the network down. What still runs in the namespaces keeps them, but
// their names and interfaces go.
func (b *Bed) Close() error {
	var errs []error
	if b.Server.Index > 0 {
		// Namespaces are taken apart by and by; the pair goes at once.
		errs = append(errs, b.Server.Run(func() error {
			pair, err := netlink.LinkByIndex(b.Server.Index)
			if err != nil {
				return fmt.Errorf("find the pair of interfaces: %w", err)
			}
			return netlink.LinkDel(pair)
		}))
		b.Server.Index = 0
	}
	for _, end := range b.ends() {
		errs = append(errs, end.close())
	}
	return errors.Join(errs...)
}

func (e *End) close() error {
	var errs []error
	if e.pass != nil {
		errs = append(errs, e.pass.Close())
		e.pass = nil
	}
	if e.fd >= 0 {
		errs = append(errs, unix.Close(e.fd))
		e.fd = -1
	}
	if e.Netns == "" {
		return errors.Join(errs...)
	}
	if err := unix.Unmount(e.Netns, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		errs = append(errs, fmt.Errorf("take the namespace's name away: %w", err))
	}
	if err := os.Remove(e.Netns); err != nil {
		errs = append(errs, err)
	}
	e.Netns = ""
	return errors.Join(errs...)
}
