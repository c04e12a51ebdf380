package uring

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/pawelgaczynski/giouring"
	"golang.org/x/sys/unix"
)

// Feature is a capability that was tried, not looked up by kernel version.
type Feature struct {
	Name      string
	Supported bool
	Detail    string // why not, or what it means
}

// Support is what this kernel offers through io_uring.
type Support struct {
	Ops      map[string]bool // operation, as in io_uring_enter(2), lower case
	Features []Feature
}

// Has says whether the named feature worked when it was tried.
func (s *Support) Has(name string) bool {
	for _, f := range s.Features {
		if f.Name == name {
			return f.Supported
		}
	}
	return false
}

// operations are named by their kernel number.
var operations = []string{
	"nop", "readv", "writev", "fsync", "read_fixed", "write_fixed", "poll_add", "poll_remove", "sync_file_range",
	"sendmsg", "recvmsg", "timeout", "timeout_remove", "accept", "async_cancel", "link_timeout", "connect",
	"fallocate", "openat", "close", "files_update", "statx", "read", "write", "fadvise", "madvise", "send", "recv",
	"openat2", "epoll_ctl", "splice", "provide_buffers", "remove_buffers", "tee", "shutdown", "renameat", "unlinkat",
	"mkdirat", "symlinkat", "linkat", "msg_ring", "fsetxattr", "setxattr", "fgetxattr", "getxattr", "socket",
	"uring_cmd", "send_zc", "sendmsg_zc", "read_multishot", "waitid", "futex_wait", "futex_wake", "futex_waitv",
	"fixed_fd_install", "ftruncate", "bind", "listen", "recv_zc", "epoll_wait", "readv_fixed", "writev_fixed", "pipe",
}

// Probe asks the kernel for its operations and tries each feature on sockets
// and files of its own. It takes some milliseconds and runs on a thread of its
// own, so it may be called from any goroutine. The error says that io_uring
// cannot be used at all.
func Probe() (*Support, error) {
	var support *Support
	var err error
	var wg sync.WaitGroup
	wg.Go(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		support, err = probe()
	})
	wg.Wait()
	return support, err
}

func probe() (*Support, error) {
	r, err := New(Options{Entries: 8})
	if err != nil {
		return nil, err
	}
	known, err := r.ring.GetProbeRing()
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, fmt.Errorf("uring: probe operations: %w", err)
	}
	s := &Support{Ops: make(map[string]bool, len(operations))}
	for number, name := range operations {
		s.Ops[name] = known.IsSupported(uint8(number))
	}
	for _, t := range trials {
		f := Feature{Name: t.name, Detail: t.detail}
		if err := try(t.run); err != nil {
			f.Detail = err.Error()
		} else {
			f.Supported = true
		}
		s.Features = append(s.Features, f)
	}
	return s, nil
}

// trial is one feature and what shows that it works.
type trial struct {
	name, detail string
	run          func(*bench) error
}

var trials = []trial{
	{"single_issuer", "SINGLE_ISSUER and DEFER_TASKRUN: completions run only when asked for", tryDefer},
	{"registered_ring", "enter without a file lookup", tryRegisteredRing},
	{"abs_timer", "waits end at an absolute time", tryAbsTimer},
	{"min_timeout", "a wait gathers completions for a minimum time", tryMinTimeout},
	{"fixed_file", "sparse table of registered files", tryFixedFile},
	{"fixed_buffer", "registered buffers", tryFixedBuffer},
	{"buf_ring", "the kernel picks receive buffers from a shared ring", tryBufRing},
	{"multishot_recv", "one receive request serves a connection's life", tryMultishotRecv},
	{"recvsend_bundle", "one completion covers several buffers", tryBundle},
	{"multishot_accept", "one accept request serves a listener's life", tryMultishotAccept},
	{"msg_ring", "a ring posts completions on another", tryMsgRing},
	{"send_zc", "zero-copy send", trySendZC},
	{"udp_offload", "runs of datagrams cross the stack as one (UDP_SEGMENT, UDP_GRO, multishot recvmsg)", tryUDPOffload},
}

// bench is what a trial works with: a ring and two connected sockets.
type bench struct {
	*Ring
	a, b int
}

func try(run func(*bench) error) error {
	r, err := New(Options{Entries: 8, SingleIssuer: true, RegisterRing: true})
	if err != nil {
		return err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return errors.Join(fmt.Errorf("uring: probe sockets: %w", err), r.Close())
	}
	err = run(&bench{Ring: r, a: fds[0], b: fds[1]})
	return errors.Join(err, r.Close(), unix.Close(fds[0]), unix.Close(fds[1]))
}

// one waits for a completion, bounded by a second.
func (b *bench) one() (CQE, error) {
	var got CQE
	deadline := Now() + int64(time.Second)
	for {
		if _, err := b.SubmitAndWait(1, 100*time.Millisecond); err != nil {
			return got, err
		}
		n := b.ForEach(func(c *CQE) { got = *c })
		if n > 0 {
			return got, Err(&got)
		}
		if Now() > deadline {
			return got, errors.New("no completion within a second")
		}
	}
}

func (b *bench) wants(flag uint32, name string) error {
	if b.flags&flag == 0 {
		return fmt.Errorf("the kernel refused %s", name)
	}
	return nil
}

func tryDefer(b *bench) error {
	if err := b.wants(flagDeferTaskrun, "DEFER_TASKRUN"); err != nil {
		return err
	}
	b.SQE().Nop()
	_, err := b.one()
	return err
}

func tryRegisteredRing(b *bench) error {
	if b.enterFlg&giouring.EnterRegisteredRing == 0 {
		return errors.New("the kernel refused to register the ring's descriptor")
	}
	b.SQE().Nop()
	_, err := b.one()
	return err
}

func tryAbsTimer(b *bench) error {
	if !b.absTimer {
		return errors.New("the kernel refused an absolute wait; the generator computes relative ones")
	}
	return nil
}

func tryMinTimeout(b *bench) error {
	if b.features&featMinTimeout == 0 {
		return errors.New("the kernel has no IORING_FEAT_MIN_TIMEOUT")
	}
	return nil
}

func tryFixedFile(b *bench) error {
	if err := errors.Join(b.RegisterFilesSparse(2), b.UpdateFiles(1, []int32{int32(b.a)})); err != nil {
		return err
	}
	b.SQE().Send(1, []byte("x"), unix.MSG_NOSIGNAL).With(FixedFile)
	_, err := b.one()
	return err
}

func tryFixedBuffer(b *bench) error {
	buffer := []byte("xy")
	if err := b.RegisterBuffers(buffer); err != nil {
		return err
	}
	b.SQE().WriteFixed(b.a, buffer, 0, 0)
	_, err := b.one()
	return err
}

// provide readies a buffer ring and bytes to be received.
func (b *bench) provide() error {
	if _, err := b.NewBufRing(1, 4, 16); err != nil {
		return err
	}
	_, err := unix.Write(b.b, make([]byte, 40))
	return err
}

func tryBufRing(b *bench) error {
	if err := b.provide(); err != nil {
		return err
	}
	b.SQE().RecvSelect(b.a, 1)
	c, err := b.one()
	if err == nil && (c.Flags&CQEBuffer == 0 || c.Res != 16) {
		return fmt.Errorf("received %d bytes, flags %#x", c.Res, c.Flags)
	}
	return err
}

func tryMultishotRecv(b *bench) error {
	if err := b.provide(); err != nil {
		return err
	}
	b.SQE().RecvMultishot(b.a, 1)
	c, err := b.one()
	if err == nil && c.Flags&CQEMore == 0 {
		return fmt.Errorf("the request ended after one receive, flags %#x", c.Flags)
	}
	return err
}

func tryBundle(b *bench) error {
	if err := b.provide(); err != nil {
		return err
	}
	b.SQE().RecvSelect(b.a, 1).Bundle()
	c, err := b.one()
	if err == nil && c.Res <= 16 { // more than one buffer's worth
		return fmt.Errorf("received %d bytes of 40 with one completion", c.Res)
	}
	return err
}

func tryMultishotAccept(b *bench) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("uring: probe socket: %w", err)
	}
	defer unix.Close(fd)
	loopback := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if err := errors.Join(unix.Bind(fd, loopback), unix.Listen(fd, 1)); err != nil {
		return fmt.Errorf("uring: probe listener: %w", err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return fmt.Errorf("uring: probe listener: %w", err)
	}
	client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("uring: probe socket: %w", err)
	}
	defer unix.Close(client)
	if err := unix.Connect(client, name); err != nil {
		return fmt.Errorf("uring: probe connection: %w", err)
	}
	b.SQE().AcceptMultishot(fd)
	c, err := b.one()
	if err != nil {
		return err
	}
	if c.Flags&CQEMore == 0 {
		err = fmt.Errorf("the request ended after one connection, flags %#x", c.Flags)
	}
	return errors.Join(err, unix.Close(int(c.Res)))
}

func tryMsgRing(b *bench) error {
	b.SQE().MsgRing(b.Fd(), 7, 8).With(SkipOnSuccess)
	c, err := b.one()
	if err == nil && (c.Res != 7 || c.UserData != 8) {
		return fmt.Errorf("the message arrived as %d, %d", c.Res, c.UserData)
	}
	return err
}

func trySendZC(b *bench) error {
	s := b.SQE().Send(b.a, []byte("x"), unix.MSG_NOSIGNAL)
	s.OpCode = giouring.OpSendZC
	// unix sockets refuse zero copy with EOPNOTSUPP; an unknown operation is EINVAL.
	if _, err := b.one(); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	return nil
}

// tryUDPOffload sends a run of three datagrams over loopback and wants them
// back in one piece.
func tryUDPOffload(b *bench) error {
	var fds [2]int
	for i := range fds {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("uring: probe socket: %w", err)
		}
		defer unix.Close(fd)
		fds[i] = fd
	}
	loopback := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if err := errors.Join(unix.Bind(fds[1], loopback), unix.SetsockoptInt(fds[1], unix.IPPROTO_UDP, unix.UDP_GRO, 1)); err != nil {
		return fmt.Errorf("uring: probe UDP_GRO: %w", err)
	}
	name, err := unix.Getsockname(fds[1])
	if err == nil {
		err = unix.Connect(fds[0], name)
	}
	if err != nil {
		return fmt.Errorf("uring: probe connection: %w", err)
	}
	header := NewRecvHeader(false)
	ring, err := b.NewBufRing(1, 4, header.Overhead()+64)
	if err != nil {
		return err
	}
	b.SQE().SendRun(fds[0], &Message{}, make([]byte, 40), 16)
	if _, err := b.one(); err != nil {
		return fmt.Errorf("uring: send a run of datagrams: %w", err)
	}
	b.SQE().RecvMsgMultishot(fds[1], header, 1)
	c, err := b.one()
	if err != nil {
		return fmt.Errorf("uring: multishot recvmsg: %w", err)
	}
	bunch, ok := header.Parse(ring.Bytes(BufferID(&c), int(c.Res)))
	if !ok || len(bunch.Payload) != 40 || bunch.SegmentLen != 16 {
		return fmt.Errorf("a run of 40 bytes arrived as %d in datagrams of %d", len(bunch.Payload), bunch.SegmentLen)
	}
	return nil
}
