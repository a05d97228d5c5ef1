internal import MemoryUnits
internal import Synchronization
internal import TDXStatusCodes

extension TDXModule {
    /// SYS.RD (reference §1.7): one field of the module; RDX becomes the next id, all ones after the last.
    func sysRd(_ r: inout Registers, _ processor: LogicalProcessorID) -> TDXStatus {
        let id = FieldID(r.rdx).inContext(.system)
        r.rdx = FieldID.none.raw
        r.r8 = 0
        guard system.withLock({ $0.processorsInitialized.contains(processor.rawValue) }) else {
            return .sysLPInitNotDone
        }
        if id.isNull {
            r.rdx = systemFields.next(after: id, .host).raw
            return .metadataFirstFieldIDInContext
        }
        switch readSystem(id, .host) {
        case .refused(let status): return status
        case .value(let value):
            r.r8 = value
            r.rdx = systemFields.next(after: id, .host).raw
            return .success
        }
    }

    /// SYS.RDALL (reference §1.7): all fields of the module as a metadata list of 4 KiB at RDX, from the field R8 on; R8
    /// becomes the first one that did not fit.
    func sysRdall(_ r: inout Registers, _ processor: LogicalProcessorID) -> TDXStatus {
        let id = FieldID(r.r8).inContext(.system)
        r.r8 = FieldID.none.raw
        guard system.withLock({ $0.processorsInitialized.contains(processor.rawValue) }) else {
            return .sysLPInitNotDone
        }
        guard let target = sharedOperand(r.rdx, alignment: 4096) else { return .operandInvalid.with(.rdx) }
        guard let list = systemList(from: id, .host) else { return .metadataFieldIDIncorrect }
        memory.store(list.bytes, at: target.address, key: target.key)
        r.r8 = list.next.raw
        return list.next.isNull ? .success : .metadataListOverflow
    }

    /// A metadata list of at most 4 KiB of the module's fields that a reader may see: header (bytes, sequences), then
    /// sequences of neighbouring fields, each with a header of its own. Nil when `id` is not the first element of a field.
    func systemList(from id: FieldID, _ reader: MetadataAccess) -> (bytes: [UInt8], next: FieldID)? {
        let table = systemFields
        var at = id.isNull ? table.next(after: id, byField: true, reader) : id
        guard let first = table.row(of: at), at.sizeCode == table.rows[first].id.sizeCode,
            table.rows[first].place(of: at) % Int(table.rows[first].elements) == 0
        else { return nil }
        at = table.rows[first].id.withCode(at.code)
        var words: [UInt64] = []
        var sequences: UInt64 = 0
        let room = 4096 / 8 - 1
        while !at.isNull, let index = table.row(of: at) {
            let row = table.rows[index]
            let elements = Int(row.elements)
            guard words.count + 1 + elements <= room else { break }
            let start = at
            let header = words.count
            words.append(0)
            var fields: UInt64 = 0
            var isSequence = true
            while isSequence, words.count + elements <= room {
                if row.readMask(reader) != 0 {
                    for element in 0..<row.elements {
                        guard case .value(let value) = readSystem(at.withCode(at.code + element), reader) else {
                            continue
                        }
                        words.append(value)
                    }
                    fields += 1
                }
                let previous = at
                at = table.next(after: at, byField: true, reader)
                isSequence =
                    !at.isNull && at.classCode == previous.classCode && at.code == previous.code + row.elements
                    && at.sizeCode == previous.sizeCode
                    && table.row(of: at).map { table.rows[$0].elements == row.elements } == true
            }
            words[header] = start.sequenceHeader(.system, elements: row.elements, fields: max(1, fields))
            sequences += 1
            if isSequence { break }
        }
        let size = UInt64(8 * (words.count + 1))
        let bytes = ([size | sequences << 16] + words).flatMap { word in
            (0..<8).map { UInt8(truncatingIfNeeded: word >> (8 * UInt64($0))) }
        }
        return (bytes, at)
    }
}
