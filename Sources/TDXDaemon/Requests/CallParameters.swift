internal import ControlInterface

/// The parameters of calls as they come off the wire, before any check. Numbers are signed here, so that one below zero
/// gets the interface's own error.
enum CallParameters {
    struct Create: Codable, Hashable, Sendable {
        var name: String
        var memoryBytes: Int64
        var vcpus: Int64
        var firmware: String?
        var mrconfigid: String?
        var mrowner: String?
        var mrownerconfig: String?
        var preallocate: Bool?
        var waitMilliseconds: Int64?
        var numa: NUMAPolicy?
        var prefault: Bool?

        enum CodingKeys: String, CodingKey {
            case name
            case memoryBytes = "memory_bytes"
            case vcpus, firmware, mrconfigid, mrowner, mrownerconfig, preallocate, numa, prefault
            case waitMilliseconds = "wait_ms"
        }
    }

    struct Convert: Codable, Hashable, Sendable {
        var name: String
        var gpa: Int64
        var bytes: Int64
        var to: String
    }

    struct Name: Codable, Hashable, Sendable {
        var name: String
    }
}
