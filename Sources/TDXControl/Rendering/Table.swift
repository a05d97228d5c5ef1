/// Rows of text in aligned columns, two spaces apart.
struct Table {
    enum Alignment { case left, right }

    var columns: [(title: String, alignment: Alignment)]
    private(set) var rows: [[Cell]] = []

    /// Text, and the colour that it has where colours are.
    struct Cell {
        var text: String
        var paint = Paint.none
    }

    init(_ columns: (title: String, alignment: Alignment)...) { self.columns = columns }
    init(_ columns: [(title: String, alignment: Alignment)]) { self.columns = columns }

    mutating func add(_ row: [Cell]) {
        precondition(row.count == columns.count)
        rows.append(row)
    }

    /// Every line ends with a line feed. Nothing is cut: a narrow terminal wraps.
    func rendered(_ style: Style, hasHeader: Bool = true) -> String {
        let widths = columns.indices.map { column in
            rows.reduce(hasHeader ? columns[column].title.count : 0) { max($0, $1[column].text.count) }
        }
        let header = columns.map { Cell(text: $0.title, paint: .bold) }
        return ((hasHeader ? [header] : []) + rows).map { row in
            var line = ""
            for (column, cell) in row.enumerated() {
                let padding = String(repeating: " ", count: widths[column] - cell.text.count)
                let painted = style.painted(cell.text, cell.paint)
                if column > 0 { line += "  " }
                switch columns[column].alignment {
                case .right: line += padding + painted
                // The last column needs no blanks after it.
                case .left: line += painted + (column == row.count - 1 ? "" : padding)
                }
            }
            return line + "\n"
        }.joined()
    }
}

/// `label   value` lines with the values under each other.
func renderFields(_ fields: [(label: String, value: String)], indent: String = "", _ style: Style) -> String {
    let width = fields.reduce(0) { max($0, $1.label.count) }
    return fields.map { field in
        indent + style.dim(field.label) + String(repeating: " ", count: width - field.label.count + 2) + field.value
            + "\n"
    }.joined()
}
