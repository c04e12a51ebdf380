package reports

import "strings"

// claimTable says the command once where it is the same for all.
func (v *view) claimTable() table {
	t := table{ID: "claims", Title: "Claims of the lesson", Note: "Each statement that can be checked, what came out here, and the command that checks it.",
		Columns: []column{{"statement", false}, {"verdict", false}, {"evidence", false}, {"command", false}}}
	common, remarks := v.commonCommand()
	if common != "" {
		t.Note, t.Code = "Each statement that can be checked and what came out here. One command checks them all:", common
		t.Columns[3].Name = "by"
	}
	if common != "" && strings.Join(remarks, "") == "" {
		t.Columns, remarks = t.Columns[:3], nil
	}
	for i, c := range v.Claims {
		row := []cell{plain(c.Statement), status(c.Verdict), plain(c.Evidence)}
		switch {
		case common == "":
			row = append(row, cell{c.Command, "code"})
		case remarks != nil:
			row = append(row, plain(remarks[i]))
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// commonCommand is the command of two or more claims when it is the same for
// all, with what each claim remarks behind it; "" otherwise. What nothing can
// measure has no command.
func (v *view) commonCommand() (command string, remarks []string) {
	checked := 0
	for _, c := range v.Claims {
		head, remark, _ := strings.Cut(c.Command, "#")
		remarks = append(remarks, strings.TrimSpace(remark))
		if head = strings.TrimSpace(head); head == "" {
			continue
		}
		if checked++; checked > 1 && head != command {
			return "", nil
		}
		command = head
	}
	if checked < 2 {
		return "", nil
	}
	return command, remarks
}
