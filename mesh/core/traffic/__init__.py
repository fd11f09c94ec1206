"""Which version of a service's model a call goes to: the policy that users write, and the choice that is made by it."""
