package projection

import (
	"math"
	"sort"
)

// Oracle folds events in the plainest way, to judge the Folders: it is slow and
// grows with what it is told. Its zero value is ready.
type Oracle struct {
	seq, revenue uint64
	counts       Counts
	products     []Product // in the order of their slots
	placed       []Order   // all of them, in order
}

// Apply folds one event.
func (o *Oracle) Apply(e Event) {
	o.seq++
	if e.Kind < Placed || e.Kind > Priced {
		o.counts.Refused++
		return
	}
	o.counts.TimeMs = e.TimeMs
	switch e.Kind {
	case Placed:
		o.counts.Placed++
		o.counts.Units += uint64(e.Quantity)
		o.placed = append(o.placed, Order{e.TimeMs, e.Order, e.Product, e.Amount, Placed})
		o.sell(e.Product, e.Quantity)
	case Paid:
		o.counts.Paid++
		o.revenue += uint64(e.Amount)
	case Shipped:
		o.counts.Shipped++
	case Cancelled:
		o.counts.Cancelled++
		o.counts.Refunded += uint64(e.Amount)
	case Priced:
		o.counts.Priced++
		for i := range o.products {
			if o.products[i].Product == e.Product {
				o.products[i].Price = e.Amount
			}
		}
	}
	if e.Kind == Paid || e.Kind == Shipped || e.Kind == Cancelled {
		o.mark(e.Order, e.Kind)
	}
}

func (o *Oracle) sell(product uint32, quantity uint16) {
	add := func(p *Product) { p.Units = uint32(min(uint64(p.Units)+uint64(quantity), math.MaxUint32)) }
	least := 0
	for i := range o.products {
		if o.products[i].Product == product {
			add(&o.products[i])
			return
		}
		if o.products[i].Units < o.products[least].Units {
			least = i
		}
	}
	if len(o.products) < SlotsMax {
		o.products = append(o.products, Product{Product: product, Units: uint32(quantity)})
		return
	}
	units := o.products[least].Units
	o.products[least] = Product{Product: product, Units: units, Over: units}
	add(&o.products[least])
}

// mark sets the status of an order that is among the newest SlotsMax; of several
// with that number, the one whose place in a ring of so many comes first.
func (o *Oracle) mark(id uint32, status Kind) {
	found, place := -1, SlotsMax
	for i := max(0, len(o.placed)-SlotsMax); i < len(o.placed); i++ {
		if o.placed[i].Order == id && i%SlotsMax < place {
			found, place = i, i%SlotsMax
		}
	}
	if found >= 0 {
		o.placed[found].Status = status
	}
}

// Contents is what an encoding of the view must decode to.
func (o *Oracle) Contents(view View) Contents {
	c := Contents{Version: view.Version, Seq: o.seq, Revenue: o.revenue}
	if view.Counts {
		counts := o.counts
		c.Counts = &counts
	}
	sorted := append([]Product(nil), o.products...)
	sort.Slice(sorted, func(i, j int) bool {
		if sorted[i].Units != sorted[j].Units {
			return sorted[i].Units > sorted[j].Units
		}
		return sorted[i].Product < sorted[j].Product
	})
	for i := 0; i < int(view.Top) && i < len(sorted); i++ {
		c.Top = append(c.Top, sorted[i])
	}
	for i := 1; i <= int(view.Recent) && i <= min(SlotsMax, len(o.placed)); i++ {
		c.Recent = append(c.Recent, o.placed[len(o.placed)-i])
	}
	return c
}
