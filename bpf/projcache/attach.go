package projcache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Modes of an Attachment.
const (
	ModeNative  = "native"  // in the driver
	ModeGeneric = "generic" // behind the driver, on socket buffers
)

// ErrForeign says that the pinned link runs another program, or that the
// interface already has one that isn't ours; neither is touched.
var ErrForeign = errors.New("projcache: the interface is served by another program")

// Attachment is a program on an interface.
type Attachment struct {
	Mode string // ModeNative or ModeGeneric
	Why  string // it is generic: the driver's refusal
	// Replaced says that the program took the place of an earlier one on the
	// pinned link, between two packets: none was lost.
	Replaced bool
	link     link.Link
}

// Attach puts the program on the interface with the given index of the calling
// thread's network namespace: in the driver, or behind it where the driver can't.
// With pins the link stays when the process ends; a link that is pinned there
// already is led to this program without a gap.
func (c *Cache) Attach(p *Program, ifindex int) (*Attachment, error) {
	if c.options.Pins == "" {
		return attachXDP(p.program, ifindex)
	}
	pin := filepath.Join(c.options.Pins, pinOfLink(ifindex))
	old, err := link.LoadPinnedLink(pin, nil)
	if err == nil {
		a, replaceErr := replace(old, p, ifindex)
		if a != nil || replaceErr != nil {
			return a, replaceErr
		}
		// Its interface is gone, and its index is another's now.
		if err := errors.Join(old.Close(), os.Remove(pin)); err != nil {
			return nil, fmt.Errorf("projcache: remove the link of an interface that is gone: %w", err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("projcache: open the pinned link: %w", err)
	}
	a, err := attachXDP(p.program, ifindex)
	if err != nil {
		return nil, err
	}
	if err := a.link.Pin(pin); err != nil {
		return nil, errors.Join(fmt.Errorf("projcache: pin the link: %w", err), a.Close())
	}
	return a, nil
}

func pinOfLink(ifindex int) string { return fmt.Sprintf("link-%d", ifindex) }

// replace leads a pinned link to p. It returns nothing for a link whose interface
// is gone.
func replace(old link.Link, p *Program, ifindex int) (*Attachment, error) {
	info, err := old.Info()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("projcache: look at the pinned link: %w", err), old.Close())
	}
	if xdp := info.XDP(); xdp == nil || int(xdp.Ifindex) != ifindex {
		return nil, nil
	}
	if err := checkOurs(info.Program); err != nil {
		return nil, errors.Join(err, old.Close())
	}
	if err := old.Update(p.program); err != nil {
		return nil, errors.Join(fmt.Errorf("projcache: lead the pinned link to the new program: %w", err), old.Close())
	}
	a := &Attachment{Replaced: true, link: old}
	if a.Mode, err = modeOf(ifindex); err != nil {
		return nil, errors.Join(err, old.Close())
	}
	return a, nil
}

func checkOurs(id ebpf.ProgramID) error {
	running, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return fmt.Errorf("projcache: open the pinned link's program: %w", err)
	}
	defer running.Close()
	info, err := running.Info()
	if err != nil {
		return fmt.Errorf("projcache: look at the pinned link's program: %w", err)
	}
	if info.Name != programCache[:min(len(programCache), unix.BPF_OBJ_NAME_LEN-1)] && info.Name != programCache {
		return fmt.Errorf("%w: the pinned link runs %q", ErrForeign, info.Name)
	}
	return nil
}

func modeOf(ifindex int) (string, error) {
	l, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return "", fmt.Errorf("projcache: look at interface %d: %w", ifindex, err)
	}
	if xdp := l.Attrs().Xdp; xdp != nil && xdp.AttachMode == attachedGeneric {
		return ModeGeneric, nil
	}
	return ModeNative, nil
}

// uapi/linux/if_link.h
const attachedGeneric = 2

func attachXDP(program *ebpf.Program, ifindex int) (*Attachment, error) {
	l, refusal := link.AttachXDP(link.XDPOptions{Program: program, Interface: ifindex, Flags: link.XDPDriverMode})
	if refusal == nil {
		return &Attachment{Mode: ModeNative, link: l}, nil
	}
	if errors.Is(refusal, unix.EBUSY) || errors.Is(refusal, unix.EEXIST) {
		return nil, fmt.Errorf("%w: interface %d: %w", ErrForeign, ifindex, refusal)
	}
	return attachXDPGeneric(program, ifindex, refusal)
}

func attachXDPGeneric(program *ebpf.Program, ifindex int, refusal error) (*Attachment, error) {
	l, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: ifindex, Flags: link.XDPGenericMode})
	if err != nil {
		return nil, fmt.Errorf("projcache: attach to interface %d: native: %w; generic: %w", ifindex, refusal, err)
	}
	return &Attachment{Mode: ModeGeneric, Why: refusal.Error(), link: l}, nil
}

// Close takes the program off, or, with pins, only lets go of it.
func (a *Attachment) Close() error {
	if err := a.link.Close(); err != nil {
		return fmt.Errorf("projcache: let go of the link: %w", err)
	}
	return nil
}
