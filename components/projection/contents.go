package projection

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/nexuscore-labs/nexus/components/projection/flat"
)

// Contents is a decoded projection.
type Contents struct {
	Version, Seq, Revenue uint64
	Counts                *Counts
	Top                   []Product
	Recent                []Order
}

// Counts are a projection's totals.
type Counts struct {
	TimeMs, Units, Refunded                           uint64
	Placed, Paid, Shipped, Cancelled, Priced, Refused uint32
}

// Product is what was sold of a product: Units, of which at most Over too many
// were counted.
type Product struct{ Product, Units, Over, Price uint32 }

// Order is an order and the kind of its last event.
type Order struct {
	TimeMs                 uint64
	Order, Product, Amount uint32
	Status                 Kind
}

// ErrEncoding says that bytes are no encoded projection.
var ErrEncoding = errors.New("projection: not an encoded projection")

// identifier is the schema's file_identifier, which flatc's Go does not check.
const identifier = "NXPJ"

// Decode reads an encoded projection with the accessors that flatc generated.
// These trust their bytes, so whatever they panic at comes back as ErrEncoding.
func Decode(data []byte) (c Contents, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			c, err = Contents{}, fmt.Errorf("%w: %v", ErrEncoding, cause)
		}
	}()
	if len(data) < 8 || len(data) > EncodedLenMax || string(data[4:8]) != identifier {
		return Contents{}, fmt.Errorf("%w: %d bytes", ErrEncoding, len(data))
	}
	if root := binary.LittleEndian.Uint32(data); root > EncodedLenMax {
		return Contents{}, fmt.Errorf("%w: root at %d", ErrEncoding, root)
	}
	root := flat.GetRootAsProjection(data, 0)
	c = Contents{Version: root.Version(), Seq: root.Seq(), Revenue: root.Revenue()}
	if n := root.Counts(nil); n != nil {
		c.Counts = &Counts{n.Time(), n.Units(), n.Refunded(), n.Placed(), n.Paid(), n.Shipped(), n.Cancelled(), n.Priced(), n.Refused()}
	}
	if root.TopLength() > SlotsMax || root.RecentLength() > SlotsMax {
		return Contents{}, fmt.Errorf("%w: vectors of %d and %d", ErrEncoding, root.TopLength(), root.RecentLength())
	}
	for i := range root.TopLength() {
		var p flat.Product
		root.Top(&p, i)
		c.Top = append(c.Top, Product{p.Product(), p.Units(), p.Over(), p.Price()})
	}
	for i := range root.RecentLength() {
		var o flat.Order
		root.Recent(&o, i)
		c.Recent = append(c.Recent, Order{o.Time(), o.Order(), o.Product(), o.Amount(), Kind(o.Status())})
	}
	return c, nil
}

// Append appends the FlatBuffer of the contents to dst, laid out as the guest lays
// it out: root, identifier, vtable, table, then its vectors, each aligned to its
// size. The contents must be of one of the views that View allows.
func (c Contents) Append(dst []byte) []byte {
	const (
		vtableAt, vtableLen = 8, 16
		tableAt, tableLen   = vtableAt + vtableLen, 40
		topSlot, recentSlot = 4, 8 // in the table
		countsAt, countsLen = tableLen, 48
	)
	le := binary.LittleEndian
	start := len(dst)
	vtable := [8]uint16{vtableLen, tableLen, 16, 24, 32}
	if c.Counts != nil {
		vtable[1], vtable[5] = tableLen+countsLen, countsAt
	}
	if len(c.Top) > 0 {
		vtable[6] = topSlot
	}
	if len(c.Recent) > 0 {
		vtable[7] = recentSlot
	}
	dst = append(le.AppendUint32(dst, tableAt), identifier...)
	for _, v := range vtable {
		dst = le.AppendUint16(dst, v)
	}
	dst = le.AppendUint32(dst, tableAt-vtableAt)
	dst = append(dst, make([]byte, 12)...) // the vectors' offsets, padding
	for _, v := range []uint64{c.Version, c.Seq, c.Revenue} {
		dst = le.AppendUint64(dst, v)
	}
	if c.Counts != nil {
		dst = c.Counts.append(dst)
	}
	if len(c.Top) > 0 {
		at := start + tableAt + topSlot
		le.PutUint32(dst[at:], uint32(len(dst)-at))
		dst = le.AppendUint32(dst, uint32(len(c.Top)))
		for _, p := range c.Top {
			dst = p.append(dst)
		}
	}
	if len(c.Recent) > 0 {
		if (len(dst)-start)%8 != 4 { // the orders behind the length are aligned to 8 bytes
			dst = le.AppendUint32(dst, 0)
		}
		at := start + tableAt + recentSlot
		le.PutUint32(dst[at:], uint32(len(dst)-at))
		dst = le.AppendUint32(dst, uint32(len(c.Recent)))
		for _, o := range c.Recent {
			dst = o.append(dst)
		}
	}
	if (len(dst)-start)%8 != 0 {
		dst = le.AppendUint32(dst, 0)
	}
	return dst
}

func (c *Counts) append(dst []byte) []byte {
	for _, v := range []uint64{c.TimeMs, c.Units, c.Refunded} {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	for _, v := range []uint32{c.Placed, c.Paid, c.Shipped, c.Cancelled, c.Priced, c.Refused} {
		dst = binary.LittleEndian.AppendUint32(dst, v)
	}
	return dst
}

func (p Product) append(dst []byte) []byte {
	for _, v := range []uint32{p.Product, p.Units, p.Over, p.Price} {
		dst = binary.LittleEndian.AppendUint32(dst, v)
	}
	return dst
}

func (o Order) append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, o.TimeMs)
	for _, v := range []uint32{o.Order, o.Product, o.Amount, uint32(o.Status)} {
		dst = binary.LittleEndian.AppendUint32(dst, v)
	}
	return dst
}
