@testable import Varlink

/// A value of most of the types that messages have.
struct SampleTree: Codable, Equatable {
    enum Side: String, Codable { case `private`, shared }

    struct Leaf: Codable, Equatable {
        var side: Side
        var gpa: UInt64
        var small: Int8?
        var flags: [Bool]
    }

    var name: String
    var ratio: Double
    var leaves: [Leaf]
    var table: [String: Leaf]?
    var grid: [[Int?]]?
    var rest: JSONValue?
}
