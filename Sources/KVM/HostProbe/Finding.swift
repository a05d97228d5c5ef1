/// Something that was looked up on a host: the value, nil where it could not be read, and what was seen.
public struct Finding<Value: Hashable & Sendable>: Hashable, Sendable {
    public var value: Value?
    /// What was read and where, for people, such as "KVM_CAP_VM_TYPES = 0x3".
    public var evidence: String

    public init(_ value: Value?, _ evidence: String) {
        self.value = value
        self.evidence = evidence
    }
}

extension Finding {
    /// Looks something up; a refusal becomes a finding without value.
    static func reading(_ look: () throws(KVMError) -> (Value, String)) -> Self {
        do throws(KVMError) {
            let (value, evidence) = try look()
            return Self(value, evidence)
        } catch {
            return Self(nil, "\(error)")
        }
    }
}

func hexadecimal(_ number: some BinaryInteger) -> String { "0x" + String(number, radix: 16) }
