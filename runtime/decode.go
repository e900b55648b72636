package runtime

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
)

// decode reads one JSON object into v. Its errors begin with where in the text
// it went wrong, or with a colon.
func decode(text []byte, v any) error {
	if len(bytes.TrimSpace(text)) == 0 {
		return errors.New(" is empty: it must be a JSON object")
	}
	err := json.Unmarshal(text, v)
	var syntax *json.SyntaxError
	var wrongType *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf(" %s: not JSON: %w", position(text, syntax.Offset), err)
	case errors.As(err, &wrongType):
		return fmt.Errorf(" %s: %s must be %s, not %s", position(text, wrongType.Offset),
			fieldName(wrongType, text), typeName(wrongType.Type), valueName(wrongType.Value))
	case err != nil:
		return fmt.Errorf(": %w", err)
	}
	if bytes.TrimSpace(text)[0] != '{' {
		return errors.New(": it must be a JSON object, not null")
	}
	return nil
}

// position is the line and column of the byte before offset, which is where
// encoding/json has stopped.
func position(text []byte, offset int64) string {
	read := text[:min(int(offset), len(text))]
	line := bytes.Count(read, []byte("\n")) + 1
	column := len(read) - (bytes.LastIndexByte(read, '\n') + 1)
	return fmt.Sprintf("line %d, column %d", line, max(column, 1))
}

// fieldName is the path of a value. encoding/json leaves out the key of a map, of which
// those of strings have one that is not the path's last.
func fieldName(wrong *json.UnmarshalTypeError, text []byte) string {
	path := wrong.Field
	if path == "" {
		return "it"
	}
	// The key of a value without quotes at the end of a text.
	lastKey := regexp.MustCompile(`"((?:[^"\\]|\\.)*)"\s*:[^"]*$`)
	key := lastKey.FindSubmatch(text[:min(int(wrong.Offset), len(text))])
	if wrong.Type.Kind() != reflect.String || key == nil || strings.EqualFold(string(key[1]), path[strings.LastIndex(path, ".")+1:]) {
		return path
	}
	return path + "." + string(key[1])
}

func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return fmt.Sprintf("a whole number of %d bits", t.Bits())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return fmt.Sprintf("a whole number of %d bits that is not negative", t.Bits())
	}
	return "an object"
}

func valueName(value string) string {
	if number, ok := strings.CutPrefix(value, "number "); ok {
		return number
	}
	switch value {
	case "bool":
		return "true or false"
	case "array", "object":
		return "an " + value
	}
	return "a " + value
}
