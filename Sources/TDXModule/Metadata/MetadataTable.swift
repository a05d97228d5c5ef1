/// Who reads or writes a field: the masks of the tables differ.
enum MetadataAccess: Hashable, Sendable {
    /// The host, for a TD that is not a debug TD, or for the module's own fields.
    case host
    /// The host, for a debug TD.
    case debugger
    /// The TD itself.
    case guest
}

/// What a field's value must be beyond its write mask.
enum FieldAttribute: String, Hashable, Sendable {
    case none = ""
    case hostAddress = "hpa"
    case sharedHostAddress = "shared-hpa"
    case privateGuestAddress = "private-gpa"
}

/// One row of the published lookup tables: `fields` fields of `elements` elements each, with consecutive codes.
struct MetadataRow: Sendable {
    var id: FieldID
    var fields: UInt64
    var elements: UInt64
    /// By `MetadataAccess`: host, debugger, guest.
    var readMasks: [UInt64]
    var writeMasks: [UInt64]
    var attribute: FieldAttribute

    /// The codes that the row covers.
    var span: UInt64 { fields * elements * id.stride }

    func readMask(_ access: MetadataAccess) -> UInt64 { readMasks[access.place] }
    func writeMask(_ access: MetadataAccess) -> UInt64 { writeMasks[access.place] }

    func contains(_ id: FieldID) -> Bool {
        id.classCode == self.id.classCode && id.code >= self.id.code && id.code < self.id.code + span
    }

    /// Elements between the row's first and `id`.
    func place(of id: FieldID) -> Int { Int((id.code - self.id.code) / self.id.stride) }
}

extension MetadataAccess {
    fileprivate var place: Int {
        switch self {
        case .host: 0
        case .debugger: 1
        case .guest: 2
        }
    }
}

/// The fields of one context, in the published order, which is the order of "next" fields.
struct MetadataTable: Sendable {
    let context: FieldID.Context
    let rows: [MetadataRow]

    /// Rows of text: identifier (hexadecimal), fields, elements, then masks: "-" nothing, "all" every bit of the element, or
    /// hexadecimal. Two masks are the host's and the guest's for reading; six are reading and writing by the host, by the
    /// host for a debug TD, and by the guest. A last word is a `FieldAttribute`.
    init(_ context: FieldID.Context, _ text: String) {
        self.context = context
        rows = text.split(separator: "\n").map { line in
            let words = line.split(separator: " ")
            guard words.count >= 5, let raw = UInt64(words[0], radix: 16), let fields = UInt64(words[1]),
                let elements = UInt64(words[2])
            else { preconditionFailure("a metadata row is malformed: \(line)") }
            let id = FieldID(raw)
            let masks = words.dropFirst(3).prefix { FieldAttribute(rawValue: String($0)) == nil }.map { word in
                switch word {
                case "-": UInt64(0)
                case "all": id.elementMask
                default: UInt64(word, radix: 16) ?? 0
                }
            }
            let attribute = FieldAttribute(rawValue: String(words.last ?? "")) ?? .none
            let isShort = masks.count == 2
            return MetadataRow(
                id: id, fields: fields, elements: elements,
                readMasks: isShort ? [masks[0], masks[0], masks[1]] : [masks[0], masks[2], masks[4]],
                writeMasks: isShort ? [0, 0, 0] : [masks[1], masks[3], masks[5]], attribute: attribute)
        }
    }

    private init(_ context: FieldID.Context, _ rows: [MetadataRow]) {
        self.context = context
        self.rows = rows
    }

    func filtered(_ isIncluded: (MetadataRow) -> Bool) -> Self { Self(context, rows.filter(isIncluded)) }

    private func isCPUID(_ id: FieldID) -> Bool { context == .trustDomain && id.classCode == FieldID.cpuidClass }

    /// The place of the row that covers a field; nil when none does.
    func row(of id: FieldID) -> Int? {
        // The code of a CPUID value names a leaf; as a code it is one of the row's two elements.
        let searched = isCPUID(id) ? id.withCode(id.cpuidElement) : id
        return rows.firstIndex { $0.contains(searched) }
    }

    /// The next element (or field) after `id` that `access` can read; the first when `id` is null.
    func next(after id: FieldID, byField: Bool = false, _ access: MetadataAccess) -> FieldID {
        var id = id
        var row = 0
        if id.isNull {
            guard let first = rows.first else { return .none }
            id = first.id
        } else {
            guard let found = self.row(of: id) else { return .none }
            row = found
            guard step(&id, &row, byField) else { return .none }
        }
        while rows[row].readMask(access) == 0 {
            // No element of the row can be read.
            row += 1
            guard enter(&id, row) else { return .none }
        }
        return id
    }

    private func enter(_ id: inout FieldID, _ row: Int) -> Bool {
        guard row < rows.count else { return false }
        id = rows[row].id
        if isCPUID(id), let first = CPUIDLookup.all.first { id = FieldID(cpuid: first.leaf, first.subleaf) }
        return true
    }

    private func step(_ id: inout FieldID, _ row: inout Int, _ byField: Bool) -> Bool {
        if isCPUID(id) {
            if !byField, id.cpuidElement == 0 {
                id = FieldID(id.raw | 1)
                return true
            }
            if let place = CPUIDLookup.place(id.cpuidLeaf, id.cpuidSubleaf), place + 1 < CPUIDLookup.all.count {
                let next = CPUIDLookup.all[place + 1]
                id = id.withCode(FieldID(cpuid: next.leaf, next.subleaf).code)
                return true
            }
        } else {
            let entry = rows[row]
            let width = (byField ? entry.elements : 1) * entry.id.stride
            let place = (id.code - entry.id.code) / width
            let count = byField ? entry.fields : entry.fields * entry.elements
            if place + 1 < count {
                id = id.withCode(id.code + width)
                return true
            }
        }
        row += 1
        return enter(&id, row)
    }
}
