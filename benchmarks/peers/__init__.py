"""What other engines do in the same cases, written as their own documentation does it.

Each file runs in a virtualenv that has its peer and not szal: it imports nothing but the peer, and that inside
its functions. CASES are the subjects, by case and label; LARGEST the greatest sizes that they are asked for.
"""
