internal import ConfidentialMemory
internal import ControlInterface
internal import FirmwareImage
internal import MemoryUnits

/// What Build was asked for, checked. Nothing of the host is looked at.
struct BuildOrder: Hashable, Sendable {
    /// Lengths in bytes of a TD's name and of its id's hexadecimal form.
    static let nameLengths = 1...64
    static let idLength = 32
    /// KVM's own limit of a TD's vCPUs.
    static let vcpuCounts = 1...1024
    static let identityBytes = 48

    var name: String
    var id: String
    var memory: ByteCount
    var vcpus: Int
    /// Where the image came from, for people; its bytes come as a descriptor.
    var firmware: String?
    var mrConfigID: [UInt8]
    var mrOwner: [UInt8]
    var mrOwnerConfig: [UInt8]
    var keyID: KeyID
    var ownerUID: UInt32
    /// All private memory is allocated before the TD is there.
    var isPreallocated: Bool
    /// All private memory is mapped into its page table before the TD is there.
    var isPrefaulted: Bool
    /// When conversions count as a storm.
    var storm: StormRule
    /// On which NUMA nodes memory is allocated.
    var numa: NUMAPolicy?
    /// The host's settings; what is nil in them is this holder's own.
    var settings: HolderSettings

    init(_ raw: HolderInterface.Build.Parameters) throws(Refusal) {
        name = try Self.name(raw.name)
        guard raw.id.utf8.count == Self.idLength, raw.id.utf8.allSatisfy(Self.isLowerHex) else {
            throw Refusal(field: "id", value: shortened(raw.id), limit: "32 lower-case hexadecimal digits")
        }
        id = raw.id
        memory = try Self.memory(raw.memoryBytes)
        guard Self.vcpuCounts.contains(raw.vcpus) else {
            throw Refusal(
                field: "vcpus", value: String(raw.vcpus),
                limit: "\(Self.vcpuCounts.lowerBound) to \(Self.vcpuCounts.upperBound)")
        }
        vcpus = raw.vcpus
        firmware = raw.firmware
        mrConfigID = try Self.identity("mrconfigid", raw.mrconfigid)
        mrOwner = try Self.identity("mrowner", raw.mrowner)
        mrOwnerConfig = try Self.identity("mrownerconfig", raw.mrownerconfig)
        keyID = KeyID(raw.keyID)
        ownerUID = raw.ownerUID
        isPreallocated = raw.preallocate ?? false
        isPrefaulted = raw.prefault ?? false
        storm = try raw.storm.map { rule throws(Refusal) in try Self.storm(rule) } ?? StormRule()
        do throws(ControlError) {
            numa = try raw.numa?.checked()
            settings = try raw.settings?.checked() ?? HolderSettings()
        } catch {
            guard case .invalidField(let field, let value, let limit) = error else {
                throw Refusal(field: "request", value: "\(error)", limit: "values that its checks accept")
            }
            throw Refusal(field: field, value: value, limit: limit)
        }
    }

    private static func storm(_ rule: ConversionStormRule) throws(Refusal) -> StormRule {
        func limit(_ range: ClosedRange<some FixedWidthInteger>) -> String {
            "\(range.lowerBound) to \(range.upperBound)"
        }
        guard ConversionStormRule.conversionCounts.contains(rule.conversions) else {
            throw Refusal(
                field: "storm.conversions", value: String(rule.conversions),
                limit: limit(ConversionStormRule.conversionCounts))
        }
        guard ConversionStormRule.windows.contains(rule.windowMilliseconds) else {
            throw Refusal(
                field: "storm.window_ms", value: String(rule.windowMilliseconds),
                limit: limit(ConversionStormRule.windows))
        }
        return StormRule(conversions: rule.conversions, milliseconds: UInt64(rule.windowMilliseconds))
    }

    private static func name(_ text: String) throws(Refusal) -> String {
        let allowed = text.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
            case UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"): true
            default: false
            }
        }
        guard allowed, nameLengths.contains(text.utf8.count) else {
            throw Refusal(field: "name", value: shortened(text), limit: "1 to 64 of a-z 0-9 . _ -")
        }
        return text
    }

    private static func memory(_ bytes: UInt64) throws(Refusal) -> ByteCount {
        let limit = GuestMemoryLayout.addressLimit.rawValue
        guard bytes > 0, bytes <= limit, bytes % pageSize == 0 else {
            throw Refusal(
                field: "memory_bytes", value: String(bytes),
                limit: "a multiple of \(pageSize) from \(pageSize) to \(limit)")
        }
        return ByteCount(bytes)
    }

    /// 48 bytes; zeroes when nothing was given.
    private static func identity(_ field: String, _ text: String?) throws(Refusal) -> [UInt8] {
        guard let text else { return [UInt8](repeating: 0, count: identityBytes) }
        let digits = Array(text.utf8)
        var bytes: [UInt8] = []
        if digits.count == 2 * identityBytes {
            for index in stride(from: 0, to: digits.count, by: 2) {
                guard let high = nibble(digits[index]), let low = nibble(digits[index + 1]) else { break }
                bytes.append(high << 4 | low)
            }
        }
        guard bytes.count == identityBytes else {
            throw Refusal(field: field, value: shortened(text), limit: "96 hexadecimal digits (48 bytes)")
        }
        return bytes
    }

    private static func isLowerHex(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte)
    }

    private static func nibble(_ digit: UInt8) -> UInt8? {
        switch digit {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
        default: nil
        }
    }
}

/// What a client sent, at a length that an error message can bear.
func shortened(_ text: String) -> String {
    text.utf8.count <= 128 ? text : String(text.prefix(100)) + "… (\(text.utf8.count) bytes)"
}
