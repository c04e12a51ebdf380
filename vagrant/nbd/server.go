package nbd

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// The NBD protocol, https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md:
// fixed newstyle negotiation, one export, simple replies.
const (
	magicServer   = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption   = 0x49484156454f5054 // "IHAVEOPT"
	magicReply    = 0x3e889045565a9
	magicRequest  = 0x25609513
	magicResponse = 0x67446698

	flagFixedNewstyle = 1 << 0
	flagNoZeroes      = 1 << 1

	optionExportName = 1
	optionAbort      = 2
	optionInfo       = 6
	optionGo         = 7

	replyAck         = 1
	replyInfo        = 3
	replyUnsupported = 1<<31 + 1
	infoExport       = 0
	infoBlockSize    = 3

	exportHasFlags = 1 << 0
	exportFlush    = 1 << 2
	exportFUA      = 1 << 3

	commandRead  = 0
	commandWrite = 1
	commandEnd   = 2
	commandFlush = 3
	flagFUA      = 1 << 0

	errorInvalid = 22
)

const exportFlags = exportHasFlags | exportFlush | exportFUA

// Bounds of what a client may ask for.
const (
	optionLenMax  = 4096
	optionsMax    = 64
	requestLenMax = 32 << 20 // the protocol's default maximum
)

// Serve serves the disk to one client after the other until the listener is
// closed. Requests are answered one after the other. A client that is gone is no
// error, one that does not speak the protocol is.
func Serve(listener net.Listener, disk *Disk) error {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("wait for the machine to open its disk: %w", err)
		}
		s := session{disk: disk, in: bufio.NewReaderSize(conn, 256<<10), out: bufio.NewWriterSize(conn, 256<<10)}
		err = s.serve()
		conn.Close()
		if err != nil && !gone(err) {
			return fmt.Errorf("serve the disk: %w", err)
		}
	}
}

// gone reports whether the client is no more there.
func gone(err error) bool {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, unix.EPIPE, unix.ECONNRESET} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

type session struct {
	disk *Disk
	in   *bufio.Reader
	out  *bufio.Writer
}

func (s *session) serve() error {
	if err := s.negotiate(); err != nil {
		return err
	}
	return s.transmit()
}

func (s *session) send(values ...any) error {
	for _, v := range values {
		if err := binary.Write(s.out, binary.BigEndian, v); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) receive(values ...any) error {
	for _, v := range values {
		if err := binary.Read(s.in, binary.BigEndian, v); err != nil {
			return err
		}
	}
	return nil
}

// negotiate returns when the client has opened the export.
func (s *session) negotiate() error {
	if err := errors.Join(s.send(uint64(magicServer), uint64(magicOption), uint16(flagFixedNewstyle|flagNoZeroes)), s.out.Flush()); err != nil {
		return err
	}
	var flags uint32
	if err := s.receive(&flags); err != nil {
		return err
	}
	for range optionsMax {
		var magic uint64
		var option, length uint32
		if err := s.receive(&magic, &option, &length); err != nil {
			return err
		}
		if magic != magicOption || length > optionLenMax {
			return fmt.Errorf("option %d with magic %#x and %d bytes", option, magic, length)
		}
		data := make([]byte, length)
		if _, err := io.ReadFull(s.in, data); err != nil {
			return err
		}
		opened, err := s.option(option, flags)
		if err := errors.Join(err, s.out.Flush()); err != nil || opened {
			return err
		}
	}
	return errors.New("the client asks for more options than there are")
}

func (s *session) option(option, flags uint32) (opened bool, err error) {
	switch option {
	case optionExportName:
		err := s.send(uint64(s.disk.Size()), uint16(exportFlags))
		if flags&flagNoZeroes == 0 {
			err = errors.Join(err, s.send(make([]byte, 124)))
		}
		return true, err
	case optionGo, optionInfo:
		export := s.send(uint64(magicReply), option, uint32(replyInfo), uint32(12), uint16(infoExport), uint64(s.disk.Size()), uint16(exportFlags))
		// minimum, preferred, maximum
		sizes := s.send(uint64(magicReply), option, uint32(replyInfo), uint32(14), uint16(infoBlockSize), uint32(SectorLen), uint32(4096), uint32(requestLenMax))
		return option == optionGo, errors.Join(export, sizes, s.send(uint64(magicReply), option, uint32(replyAck), uint32(0)))
	case optionAbort:
		return false, errors.Join(s.send(uint64(magicReply), option, uint32(replyAck), uint32(0)), s.out.Flush(), io.EOF)
	}
	return false, s.send(uint64(magicReply), option, uint32(replyUnsupported), uint32(0))
}

// request is one request of the transmission phase.
type request struct {
	Magic  uint32
	Flags  uint16
	Type   uint16
	Handle uint64
	Offset uint64
	Length uint32
}

func (s *session) transmit() error {
	for {
		var r request
		err := s.receive(&r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if r.Magic != magicRequest || r.Length > requestLenMax {
			return fmt.Errorf("request with magic %#x for %d bytes", r.Magic, r.Length)
		}
		if r.Type == commandEnd {
			return nil
		}
		if err := s.answer(r); errors.Is(err, ErrPowerOff) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// answer does one request. A disk without power answers nothing.
func (s *session) answer(r request) error {
	var data []byte
	var failed error
	switch r.Type {
	case commandRead:
		data = make([]byte, r.Length)
		failed = s.disk.ReadAt(data, int64(r.Offset))
	case commandWrite:
		body := make([]byte, r.Length)
		if _, err := io.ReadFull(s.in, body); err != nil {
			return err
		}
		failed = s.disk.WriteAt(body, int64(r.Offset), r.Flags&flagFUA != 0)
	case commandFlush:
		failed = s.disk.Flush()
	default:
		failed = errors.New("unknown command")
	}
	if errors.Is(failed, ErrPowerOff) {
		return failed
	}
	code := uint32(0)
	if failed != nil {
		code, data = errorInvalid, nil
	}
	return errors.Join(s.send(uint32(magicResponse), code, r.Handle, data), s.out.Flush())
}
